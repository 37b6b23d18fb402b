"""The latents and actions of a split in memory, frame by frame: a batch is one gather per tensor."""

import warnings
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from wakedream.data.manifest import EpisodeInfo
from wakedream.data.store import Store
from wakedream.data.trajectory import Trajectory, of_actions
from wakedream.dynamics.latents import LatentStore
from wakedream.progress import late_bar


class LatentTable:
    """All frames of some episodes, one episode after the other.

    On `device` if that takes at most `cache_gib` GiB (and no more than half of what a GPU has left), else in the
    host's memory. Episodes that are not in `labelled` have has_action False and zeros for actions.
    """

    def __init__(self, store: Store, latents: LatentStore, episodes: Sequence[EpisodeInfo], device: torch.device,
                 cache_gib: float, labelled: AbstractSet[int], show_progress: bool = True):
        """DataError when latents or actions are damaged, or latents not finite."""
        self.device = device
        self.frames = sum(info.frames for info in episodes)
        size = 4 * self.frames * latents.num_latents * latents.latent_dim  # two tables of two bytes
        self.home = home = _home(device, size, cache_gib)
        # frame i is row i with its past and row frames + i alone, so that one gather serves both
        self._latents = torch.empty(2 * self.frames, latents.num_latents, latents.latent_dim, dtype=torch.float16,
                                    device=home)
        columns = store.empty_columns(self.frames)
        firsts = accumulate((info.frames for info in episodes), initial=0)
        with late_bar("reading latents", self.frames, "frames", show_progress) as advance:
            for info, first in zip(episodes, firsts, strict=False):
                rows = slice(first, first + info.frames)
                both = latents.read_half(info.id)
                self._latents[rows] = both[0].to(home)
                self._latents[self.frames + first:self.frames + rows.stop] = both[1].to(home)
                for name, values in store.columns(info.id).items():
                    if info.id in labelled or not of_actions(name):
                        columns[name][rows] = values
                advance(info.frames)
        self._columns = {name: torch.from_numpy(values).to(home) for name, values in columns.items()}

    def gather(self, frames: np.ndarray, alone: int) -> tuple[Tensor, Trajectory]:
        """For frames int64 (b t), on `device`: latents float32 (b t l e), of the first `alone` rows each frame alone;
        and what was done. Never waits for a GPU."""
        rows = frames.copy()
        rows[:alone] += self.frames
        taken, of_latents = self._index(frames), self._index(rows)
        latents = self._take(self._latents, of_latents).float()
        return latents, Trajectory.of_columns({name: self._take(column, taken)
                                               for name, column in self._columns.items()})

    def _index(self, numbers: np.ndarray) -> Tensor:
        index = torch.from_numpy(numbers)
        return index.pin_memory().to(self.home, non_blocking=True) if self.home.type == "cuda" else index

    def _take(self, table: Tensor, index: Tensor) -> Tensor:
        """table (frames ...), index (b t) to (b t ...)"""
        shape = *index.shape, *table.shape[1:]
        if self.home == self.device:
            return table.index_select(0, index.flatten()).view(shape)
        pinned = torch.empty(index.numel(), *table.shape[1:], dtype=table.dtype, pin_memory=self.device.type == "cuda")
        torch.index_select(table, 0, index.flatten(), out=pinned)
        return pinned.view(shape).to(self.device, non_blocking=True)


def _home(device: torch.device, size: int, cache_gib: float) -> torch.device:
    host = torch.device("cpu")
    if device.type != "cuda" or size > cache_gib * 2**30:
        return host if device.type == "cuda" else device
    free, _ = torch.cuda.mem_get_info(device)
    if size > free / 2:
        warnings.warn(f"the latents, {size / 2**30:.1f} GiB, are over half of the free memory of {device}, "
                      f"{free / 2**30:.1f} GiB: they stay in the host's memory, which is a little slower", stacklevel=5)
        return host
    return device
