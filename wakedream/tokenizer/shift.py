"""Training clips moved by some pixels: a small data set that is seen a hundred times is learned by heart, places and
all, and what stands elsewhere in held-out play is then drawn where it stood before."""

import torch
from jaxtyping import Bool
from torch import Tensor

from wakedream.notation import Frames

Where = Bool[Tensor, "b t 1 h w"]
SHARE = 0.5  # of the clips; the others stay where they are, as all do afterwards


def shifted(frames: Frames, where: Where, most: int, background: Tensor | None = None) -> tuple[Frames, Where]:
    """Half of the clips (b t c h w), each moved by up to `most` pixels up or down and to a side, all its frames alike;
    and where something moves in them (b t 1 h w), `where` before.

    With a background (c h w) what moves is moved, and the ground stays; without, the whole picture, whose edge is
    repeated.
    """
    batch, _, _, height, width = frames.shape
    moves = torch.rand(batch, 1, device=frames.device) < SHARE
    rows, columns = (_sources(length, most, moves) for length in (height, width))
    found, there = _taken(frames, rows, columns), _taken(where, rows, columns)
    if background is None:
        return found, there
    there = there & _within(rows, height)[:, None, None, :, None] & _within(columns, width)[:, None, None, None, :]
    moves = moves[..., None, None, None]
    return (torch.where(moves, torch.where(there, found, background), frames), torch.where(moves, there, where))


def _sources(length: int, most: int, moves: Tensor) -> Tensor:
    """Where each row or column comes from, int64 (b length), beyond the edges too."""
    by = torch.randint(-most, most + 1, moves.shape, device=moves.device) * moves
    return torch.arange(length, device=moves.device) + by


def _within(sources: Tensor, length: int) -> Tensor:
    return (sources >= 0) & (sources < length)


def _taken(pixels: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """(b t c h w) at those rows and columns of each clip."""
    rows, columns = (sources.clamp(0, sources.shape[1] - 1) for sources in (rows, columns))
    picked = pixels.gather(3, rows[:, None, None, :, None].expand(*pixels.shape))
    return picked.gather(4, columns[:, None, None, None, :].expand(*pixels.shape))
