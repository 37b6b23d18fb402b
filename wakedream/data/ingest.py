"""`wakedream ingest`: video files and folders to a data set, each video whole or not at all."""

import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np

from wakedream.data.actions import ActionSpec
from wakedream.data.config import IngestConfig, parse_size
from wakedream.data.episode import Episode
from wakedream.data.manifest import read_manifest
from wakedream.data.video import read_video
from wakedream.data.writer import StoreWriter
from wakedream.errors import DataError
from wakedream.progress import ProgressBar

SUFFIXES = (".3gp", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mjpeg", ".mkv", ".mov", ".mp4", ".mpeg",
            ".mpg", ".ogv", ".ts", ".webm", ".wmv", ".y4m")


def ingest(config: IngestConfig) -> None:
    """Decode, resize, cut and store. Bad videos are left out, named, and a DataError at the end."""
    files, passed_over = find_videos(config.videos)
    if passed_over:
        print(f"{len(passed_over)} files passed over, not videos by their names: {_some(passed_over)}",
              file=sys.stderr)
    options = {name: asdict(config)[name] for name in ("size", "fit", "fps", "episode_frames")}
    out, bad = Path(config.out), {}
    with StoreWriter(out, ActionSpec(), frame_shape=(*parse_size(config.size), 3), held_out=config.held_out,
                     info={"source": "ingest", "ingest": options}) as writer:
        if writer.header.info.get("ingest") != options:
            raise DataError(f"the data set {out} was made with {writer.header.info.get('ingest')}, now it is "
                            f"{options}: use the same options, or choose another --out")
        done = {info.info["source"]: info.info["bytes"] for info in writer.added if info.info["last"]}
        with ProgressBar("ingesting", float(len(files)), "videos") as bar:
            for file in files:
                try:
                    _add_video(writer, file, config, done)
                except DataError as error:
                    bad[file] = str(error)
                bar.advance(1.0, frames=f"{writer.frames:,}", bad=len(bad))
        empty = writer.num_episodes == 0
    _report(out, len(files), bad, config.skip_bad and not empty)


def find_videos(paths: tuple[str, ...]) -> tuple[list[Path], list[Path]]:
    """The files to read, sorted within each folder, and those in folders whose names are not videos'.

    DataError when a path does not exist or no video is found. Hidden files are ignored.
    """
    files: list[Path] = []
    passed_over: list[Path] = []
    for path in map(Path, paths):
        if not path.exists():
            raise DataError(f"{path} does not exist: expected a video or a folder of videos")
        if not path.is_dir():
            files.append(path)
            continue
        for file in sorted(p for p in path.rglob("*") if p.is_file()):
            if not any(part.startswith(".") for part in file.relative_to(path).parts):
                (files if file.suffix.lower() in SUFFIXES else passed_over).append(file)
    if not files:
        raise DataError(f"no videos in {', '.join(paths)}: expected files ending in {' '.join(SUFFIXES)}")
    return list(dict.fromkeys(files)), passed_over


def _add_video(writer: StoreWriter, file: Path, config: IngestConfig, done: dict[str, int]) -> None:
    source, size = str(file), file.stat().st_size
    if source in done:
        if done[source] != size:
            raise DataError(f"{file} has changed since it was ingested: choose another --out")
        return
    parts = {info.info["first_frame"] for info in writer.added if info.info["source"] == source}
    frames = read_video(file, parse_size(config.size), config.fit, config.fps, config.keep_truncated)
    with writer.all_or_nothing():
        for first, video, last in _cut(frames, config.episode_frames):
            if first not in parts:  # else written before an interruption
                writer.add(Episode.of_video(video, source=source, bytes=size, first_frame=first, last=last))


def _cut(frames: Iterator[np.ndarray], length: int) -> Iterator[tuple[int, np.ndarray, bool]]:
    """(first frame, frames, whether it is the last) for each run of at most `length` frames."""
    first = 0
    part: list[np.ndarray] = []
    for frame in frames:
        if len(part) == length:
            yield first, np.stack(part), False
            first, part = first + length, []
        part.append(frame)
    yield first, np.stack(part), True


def _report(out: Path, total: int, bad: dict[Path, str], accept: bool) -> None:
    if len(bad) < total:
        made = read_manifest(out)
        frames = sum(info.frames for info in made.episodes)
        print(f"{out}: {total - len(bad)} videos, {len(made.episodes)} episodes, {frames:,} frames, "
              f"{made.stored_bytes / frames:,.0f} bytes per frame, "
              f"{made.stored_bytes / made.raw_bytes:.0%} of raw")
    if not bad:
        return
    names = "\n  ".join(bad.values())
    message = f"{len(bad)} of {total} videos could not be read and are left out:\n  {names}"
    if accept:
        print(message, file=sys.stderr)
        return
    kept = f"The others are in {out}, complete. " if len(bad) < total else "Nothing was written. "
    raise DataError(f"{message}\n{kept}Mend or remove them and run the same command again, or accept this "
                    "with --skip-bad")


def _some(paths: list[Path]) -> str:
    return ", ".join(path.name for path in paths[:5]) + (", ..." if len(paths) > 5 else "")
