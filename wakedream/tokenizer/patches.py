"""Frames to patches and back, and where patches and latents stand in the picture."""

import math

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from wakedream.notation import Frames, Patches


def patchify(frames: Frames, size: int, grid: tuple[int, int] | None = None) -> Patches:
    """(b t c h w) to (b t n p), p = size^2 c, padded with black at the bottom and right.

    grid: rows and columns of patches; by default as few as hold the frame.
    """
    height, width = frames.shape[-2:]
    rows, columns = grid or (-(-height // size), -(-width // size))
    frames = F.pad(frames, (0, columns * size - width, 0, rows * size - height))
    return rearrange(frames, "b t c (i y) (j x) -> b t (i j) (y x c)", y=size, x=size)


def unpatchify(
    patches: Patches, size: int, frame_size: tuple[int, int], grid: tuple[int, int] | None = None
) -> Frames:
    """The inverse of `patchify`, cropped to frame_size (h, w)."""
    height, width = frame_size
    rows = grid[0] if grid else -(-height // size)
    frames = rearrange(patches, "b t (i j) (y x c) -> b t c (i y) (j x)", i=rows, y=size, x=size)
    return frames[..., :height, :width]


def grid_embedding(rows: int, columns: int, dim: int, extent: tuple[int, int]) -> Tensor:
    """Sines and cosines of unit scale, (rows * columns, dim), at the cell centres of a grid over the picture.

    extent: the patch grid's rows and columns, the unit of the coordinates; so a coarse grid of latents
    starts near the fine grid's patches that it lies on.
    """
    y = (torch.arange(rows, dtype=torch.float64) + 0.5) * extent[0] / rows
    x = (torch.arange(columns, dtype=torch.float64) + 0.5) * extent[1] / columns
    half = dim // 2
    table = torch.zeros(rows, columns, dim, dtype=torch.float64)
    table[..., :half] = _waves(y, half, 2 * extent[0]).unsqueeze(1)
    table[..., half:] = _waves(x, dim - half, 2 * extent[1]).unsqueeze(0)
    return rearrange(table, "i j d -> (i j) d").float()


def latent_grid(count: int, extent: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of `count` latents, as near as can be to the picture's shape."""
    pairs = [(rows, count // rows) for rows in range(1, count + 1) if count % rows == 0]
    return min(pairs, key=lambda pair: abs(math.log(pair[0] / pair[1]) - math.log(extent[0] / extent[1])))


def _waves(position: Tensor, dim: int, longest: float | int) -> Tensor:
    """sqrt(2) (sin, cos) with wavelengths from 4 cells to twice the picture."""
    count = (dim + 1) // 2
    wavelengths = torch.logspace(math.log10(4), math.log10(max(longest, 8)), count, dtype=torch.float64)
    angles = 2 * math.pi * position.unsqueeze(-1) / wavelengths
    return math.sqrt(2) * torch.cat((angles.sin(), angles.cos()), dim=-1)[..., :dim]
