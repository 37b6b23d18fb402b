"""Which data of others can be read: lerobot:PATH, minari:NAME and so on."""

import re
from pathlib import Path

from wakedream.config import find, suggest
from wakedream.data.readers.source import Source
from wakedream.errors import ConfigError

READERS = {
    "lerobot": "wakedream.data.readers.lerobot:LeRobot",
    "minari": "wakedream.data.readers.minari:Minari",
    "vpt": "wakedream.data.readers.vpt:Vpt",
    "hdf5": "wakedream.data.readers.arrays:Hdf5",
    "npz": "wakedream.data.readers.arrays:Npz",
}


def split(text: str) -> tuple[str, str] | None:
    """"lerobot:some/path" -> ("lerobot", "some/path"); None for a path, colon or not. ConfigError for a reader that
    does not exist."""
    match = re.fullmatch(r"([A-Za-z][A-Za-z0-9_+.-]+):(.+)", text)
    if match is None or Path(text).exists():
        return None
    if match[1] not in READERS:
        raise ConfigError(f"{text} does not exist, and {suggest('reader', match[1], READERS)}")
    return match[1], match[2]


def open_source(kind: str, place: str, camera: str | None) -> Source:
    """DataError when there is nothing of this kind, ConfigError when the camera has to be chosen."""
    source: Source = find(READERS[kind])(place, camera)
    return source
