"""Options of the data's commands and of the loader. Imports no torch."""

import re
from dataclasses import dataclass
from typing import Literal

from wakedream.config import check
from wakedream.errors import ConfigError


@dataclass(frozen=True)
class LoaderConfig:
    """How clips reach the device."""

    batch_size: int = 32
    """clips per batch on each device"""
    length: int = 16
    """frames per clip"""
    workers: int = 2
    """threads that unpack frames"""
    prefetch: int = 4
    """batches made ready ahead, unless the whole split is unpacked"""
    cache_gib: float = 4.0
    """unpack the whole split once, onto the device (each one's), if it takes at most so many GiB; larger ones, and
    all with 0, are unpacked batch by batch"""

    def __post_init__(self) -> None:
        for name in ("batch_size", "length", "workers", "prefetch"):
            value = getattr(self, name)
            check(value >= 1, f"{name} is {value}: expected at least 1")
        check(self.cache_gib >= 0, f"cache_gib is {self.cache_gib}: expected 0 or more")


@dataclass(frozen=True)
class IngestConfig:
    """Video files, or data that others have, to a data set. The same command goes on where it was stopped."""

    videos: tuple[str, ...]
    """video files, and folders to search for them (NAME.actions.json beside NAME.mp4 holds its actions); or
    lerobot:PATH, minari:NAME or minari:PATH, vpt:PATH, hdf5:PATH, npz:PATH"""
    out: str
    """the data set's folder"""
    size: str = "64"
    """pixels of a frame: 64, or height x width as in 128x96"""
    fit: Literal["crop", "pad", "stretch"] = "crop"
    """crop: fill the frame, cut what is over; pad: keep all, with black borders; stretch: distort"""
    fps: float | None = None
    """frames per second to keep; default: the video's own"""
    episode_frames: int | None = None
    """longer videos are cut into episodes of so many frames; default: 256, and episodes of lerobot, minari, hdf5 and
    npz stay whole"""
    held_out: float = 0.1
    """share of the episodes kept for evaluation"""
    skip_bad: bool = False
    """end well even if some videos could not be read; they are named and left out either way"""
    keep_truncated: bool = False
    """of a video that breaks off, keep the frames that could be read"""
    camera: str | None = None
    """which pictures, where lerobot, minari, hdf5 or npz have several"""

    def __post_init__(self) -> None:
        check(bool(self.videos), "no videos given: expected video files or folders")
        check(bool(self.out), "--out: expected a folder, got nothing")
        check(self.fps is None or self.fps > 0, f"--fps {self.fps}: expected more than 0")
        check(self.episode_frames is None or self.episode_frames >= 1,
              f"--episode-frames {self.episode_frames}: expected at least 1")
        check(0 <= self.held_out < 1, f"--held-out {self.held_out}: expected at least 0 and below 1")
        parse_size(self.size)

    @property
    def video_frames(self) -> int:
        """Where to cut what has no episodes of its own."""
        return self.episode_frames or 256


@dataclass(frozen=True)
class InspectConfig:
    """What a folder holds, and whether it is whole."""

    path: str
    """a data set, a run, a checkpoint, weights, or latents"""
    repair: bool = False
    """drop what is damaged, say what, keep all else"""
    sheet: str | None = None
    """write a contact sheet of some episodes to this PNG file"""
    short: int = 16
    """count episodes with fewer frames than this"""


def parse_size(text: str) -> tuple[int, int]:
    """'64' -> (64, 64); '128x96' -> (128, 96), height x width. ConfigError otherwise."""
    match = re.fullmatch(r"(\d+)(?:x(\d+))?", text.strip())
    if not match:
        raise ConfigError(f"--size {text}: expected pixels as 64, or height x width as 128x96")
    height, width = int(match[1]), int(match[2] or match[1])
    possible = all(8 <= pixels <= 4096 for pixels in (height, width))
    check(possible, f"--size {text}: expected 8 to 4096 pixels each way")
    return height, width
