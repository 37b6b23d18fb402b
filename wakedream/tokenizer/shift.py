"""Training clips moved by some pixels: a small data set that is seen a hundred times is learned by heart, places and
all, and what stands elsewhere in held-out play is then drawn where it stood before (docs/log.md)."""

import torch
from jaxtyping import Shaped
from torch import Tensor

SHARE = 0.5  # of the clips; the others stay where they are, as all do once it is trained


def draw_shift(batch: int, most: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """How far down and to the right, int64 (b) each: up to `most` pixels either way for half of the clips, else 0."""
    moves = torch.rand(batch, device=device) < SHARE
    down, right = (torch.randint(-most, most + 1, (batch,), device=device) * moves for _ in range(2))
    return down, right


def shifted(frames: Shaped[Tensor, "b t c h w"], down: Tensor, right: Tensor) -> Shaped[Tensor, "b t c h w"]:
    """Clips of any type, all frames of one moved alike; the edge is repeated."""
    height, width = frames.shape[-2:]
    rows = _sources(height, down)[:, None, None, :, None].expand(*frames.shape)
    columns = _sources(width, right)[:, None, None, None, :].expand(*frames.shape)
    return frames.gather(3, rows).gather(4, columns)


def _sources(length: int, by: Tensor) -> Tensor:
    """Where each row or column comes from, int64 (b length)."""
    return (torch.arange(length, device=by.device) - by[:, None]).clamp(0, length - 1)
