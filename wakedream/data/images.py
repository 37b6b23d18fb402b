"""Folders of images that are the frames of a video, as cameras, renderers and other data sets leave them."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wakedream.data.film import opened
from wakedream.errors import DataError

IMAGES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")


def images_in(folder: Path) -> list[Path]:
    """By name, numbers in it as numbers: 2.png before 10.png. Hidden files are ignored."""
    found = [file for file in folder.iterdir() if file.suffix.lower() in IMAGES and not file.name.startswith(".")]
    return sorted((file for file in found if file.is_file()), key=in_order)


def in_order(file: Path) -> list[tuple[int, str]]:
    """For sorting: digits count as the number that they make."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", file.name)]


def pictures(folder: Path) -> Iterator[tuple[Path, Any]]:
    """Each file and its picture, an av.VideoFrame; DataError at the first that is none."""
    for file in images_in(folder):
        with opened(file) as (container, stream):
            frame = next(container.decode(stream), None)
        if frame is None or frame.is_corrupt:
            raise DataError(f"{file} is damaged: mend or remove it")
        yield file, frame
