"""What a data set looks like where nothing happens: the picture that everything that moves is seen against."""

import torch
from torch import Tensor

from wakedream.data.loader import evaluation_clips
from wakedream.data.store import Store
from wakedream.notation import Frames, Video

SPREAD = 256  # frames, evenly over the training split
MOVES = 20  # of 255: a pixel moves where some channel is further than that from the background


def stills(store: Store, seed: int = 0) -> tuple[Tensor, Tensor]:
    """`mean_image` and `background`, of frames that are read once."""
    video = _spread(store, seed)
    return _mean(video), _median(video)


def mean_image(store: Store, seed: int = 0) -> Tensor:
    """The mean frame (c h w) of the training split, in [0, 1]: of all pictures the one with the least squared error."""
    return _mean(_spread(store, seed))


def background(store: Store, seed: int = 0) -> Tensor:
    """The median frame (c h w) of the training split, in [0, 1]: without what is somewhere else every time."""
    return _median(_spread(store, seed))


def moving(frames: Frames, behind: Tensor) -> Tensor:
    """Where frames (b t c h w) in [0, 1] differ from `background` (c h w): bool (b t 1 h w).

    In a world that scrolls nearly everywhere; in one that stands still, its figures where they cover something.
    """
    return ((frames - behind).abs() * 255 > MOVES + 0.5).any(2, keepdim=True)


def _spread(store: Store, seed: int) -> Video:
    split = "train" if store.split("train") else "held_out"
    return evaluation_clips(store, split, SPREAD, 1, seed).video


def _mean(video: Video) -> Tensor:
    total = torch.stack([frames.float().sum((0, 1)) for frames in video.split(32)]).sum(0)
    return total / (255 * video.shape[0])


def _median(video: Video) -> Tensor:
    video = video.squeeze(1)
    rows = [video[:, :, row].median(dim=0).values for row in range(video.shape[2])]  # a row at a time: it sorts
    return torch.stack(rows, dim=1).float() / 255
