"""Options of `wakedream evaluate` and `wakedream reconstruct`. Imports no torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from wakedream.config import check


@dataclass(frozen=True)
class EvaluateConfig:
    """Measure a trained tokenizer on held-out episodes: metrics.json and a page with pictures and videos."""

    run: Path
    """A run folder or a weights folder."""
    data: Path
    """The data set; its held-out episodes are used."""
    out: Path | None = None
    """Where to write (default: RUN/evaluation)."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N"""
    clips: int = 32
    """How many clips, spread evenly over the held-out episodes."""
    length: int | None = None
    """Frames per clip (default: twice the training clip where most episodes are that long, else once)."""
    videos: bool = True
    """Put short videos on the page."""
    lpips: bool = True
    """Measure LPIPS; needs `wakedream weights lpips`."""
    lpips_net: Literal["alex", "vgg"] = "alex"
    """The network LPIPS is measured with."""
    seed: int = 0
    """Which clips and which masks."""

    def __post_init__(self) -> None:
        check(self.clips >= 1, f"--clips is {self.clips}, expected at least 1")
        check(self.length is None or self.length >= 1, f"--length is {self.length}, expected at least 1")


@dataclass(frozen=True)
class ReconstructConfig:
    """Write a video of truth, reconstruction and error, side by side."""

    run: Path
    """A run folder or a weights folder."""
    source: Path
    """A video file, or a data set (its held-out episodes)."""
    out: Path
    """The video to write, for example reconstruction.mp4."""
    fit: Literal["crop", "pad", "stretch"] = "crop"
    """How a video file is brought to the tokenizer's frame size, as in `wakedream ingest`."""
    fps: float | None = None
    """Frames per second taken from a video file and written (default: the file's own; a data set: 10)."""
    max_frames: int | None = None
    """Stop after so many frames."""
    scale: int | None = None
    """Enlarge by this whole factor (default: to about 256 pixels in height)."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N"""

    def __post_init__(self) -> None:
        for name in ("fps", "max_frames", "scale"):
            value = getattr(self, name)
            check(value is None or value > 0, f"--{name.replace('_', '-')} is {value}, expected more than 0")
