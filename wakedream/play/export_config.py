"""What is written into one folder, to be given on. Imports no torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from wakedream.config import check, check_seed


@dataclass(frozen=True)
class ExportConfig:
    run: Path
    """A run folder: of an agent, or of a dynamics model."""
    out: Path
    """The folder to write: weights and configs, and the moments at which dreams can begin."""
    data: Path | None = None
    """A data set, of which moments go along: `wakedream play OUT` then needs no data."""
    moments: int = 16
    """How many of them."""
    length: int = 18
    """Frames of each."""
    precision: Literal["bf16", "float32"] = "bf16"
    """Of the weights; they are read as float32 again."""
    seed: int = 0
    """Which moments."""

    def __post_init__(self) -> None:
        check(self.moments >= 1, f"--moments {self.moments}: expected at least 1")
        check(self.length >= 2, f"--length {self.length}: expected at least 2")
        check_seed(self.seed, "--seed")
