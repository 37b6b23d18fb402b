"""What the dynamics model is fed: rows of frames as latents, with what was done and came of it."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from wakedream.data.trajectory import Recorded, Trajectory
from wakedream.notation import FrameIds, Latents


@dataclass
class LatentClip(Recorded):
    """A batch of rows of t frames.

    latents     float32 (b t l e) in [-1, 1], as the tokenizer makes them
    trajectory  `trajectory.actions[:, t]` led into `latents[:, t]`
    segments    int64 (b t): frames of one segment see each other; numbered from 0 in each row.
                Two clips of 3 frames side by side: 0 0 0 1 1 1; images: 0 1 2 3 4 5; one long clip: 0 0 0 0 0 0
    """

    latents: Latents
    trajectory: Trajectory
    segments: FrameIds

    @property
    def starts(self) -> Bool[Tensor, "b t"]:
        """Frames that nothing stands before: the first of each segment."""
        first = torch.ones_like(self.segments, dtype=torch.bool)
        first[:, 1:] = self.segments[:, 1:] != self.segments[:, :-1]
        return first
