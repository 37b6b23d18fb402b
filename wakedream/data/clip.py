"""What the tokenizer is fed: a batch of windows cut from episodes."""

from dataclasses import dataclass

from wakedream.data.trajectory import Recorded, Trajectory
from wakedream.notation import Video


@dataclass
class Clip(Recorded):
    """A batch of windows: uint8 (b t c h w), 0..255, and what was done and came of it, frame by frame."""

    video: Video
    trajectory: Trajectory
