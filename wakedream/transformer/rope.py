"""Rotary position embedding over frame numbers (Su et al. 2021), in time and dense layers only."""

import torch
from torch import Tensor

from wakedream.notation import FrameIds

BASE = 10_000.0


def rotary_angles(frame_ids: FrameIds, head_dim: int) -> tuple[Tensor, Tensor]:
    """cos and sin, float32 (b t e/2), of frame_ids (int64, unbounded) times the frequencies.

    Angles in float64: in float32 a logit is already off by 1e-4 at frame 10,000.
    """
    exponent = torch.arange(0, head_dim, 2, device=frame_ids.device, dtype=torch.float64) / head_dim
    angles = frame_ids.to(torch.float64).unsqueeze(-1) * BASE**-exponent
    return angles.cos().float(), angles.sin().float()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate pairs (i, i + e/2) of the last axis of x (b t s h e) by the frame's angles (b t e/2)."""
    cos, sin = cos[:, :, None, None], sin[:, :, None, None]
    first, second = x.float().chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, first * sin + second * cos), dim=-1).to(x.dtype)
