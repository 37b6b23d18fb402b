"""The latents and trajectories of a split, frame by frame: a batch is one gather per tensor."""

import warnings
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from itertools import accumulate, pairwise

import numpy as np
import torch
from torch import Tensor

from wakedream.data.manifest import EpisodeInfo
from wakedream.data.store import Store
from wakedream.data.trajectory import Trajectory, of_actions
from wakedream.dynamics.latents import LatentStore
from wakedream.progress import late_bar

Numbers = np.ndarray


class LatentTable:
    """All frames of some episodes, one episode after the other.

    Latents lie on `device` if they take at most `cache_gib` GiB (and no more than half of what a GPU has left). Else
    they stay in their files, mapped into memory: all processes of a machine share what the system keeps of them.
    Trajectories are kept beside them. Episodes that are not in `labelled` have has_action False and zeros for actions.
    """

    def __init__(self, store: Store, latents: LatentStore, episodes: Sequence[EpisodeInfo], device: torch.device,
                 cache_gib: float, labelled: AbstractSet[int], rank: int = 0, world_size: int = 1):
        """The processes share the work of comparing checksums. DataError when latents or trajectories are damaged."""
        self.device = device
        self.frames = sum(info.frames for info in episodes)
        size = 4 * self.frames * latents.num_latents * latents.latent_dim  # two tables of two bytes
        self.home = home = _home(device, size, cache_gib)
        self._locate(latents, episodes)
        shards = sorted(set(self._shards.tolist()))
        with late_bar("reading latents", len(shards), "shards", rank == 0) as advance:
            for number in shards[rank::world_size]:
                latents.verify(number, finite=True)
                advance(world_size)
        self._maps = {number: latents.mapped(number) for number in shards}
        self._latents = self._resident(latents) if home.type == "cuda" else None
        self._columns = {name: torch.from_numpy(values).to(home)
                         for name, values in _columns(store, episodes, labelled).items()}

    def gather(self, frames: Numbers, alone: int) -> tuple[Tensor, Trajectory]:
        """For frames int64 (b t), on `device`: latents float32 (b t l e), of the first `alone` rows each frame alone;
        and what was done. Never waits for a GPU."""
        if self._latents is None:
            latents = self._from_files(frames, alone)
        else:
            rows = frames.copy()
            rows[:alone] += self.frames
            latents = self._take(self._latents, self._index(rows))
        taken = self._index(frames)
        return latents.float(), Trajectory.of_columns({name: self._take(column, taken)
                                                       for name, column in self._columns.items()})

    def _locate(self, latents: LatentStore, episodes: Sequence[EpisodeInfo]) -> None:
        """For every frame: which shard has it, and which of its rows it is."""
        self._shards, self._rows = np.zeros(self.frames, np.int64), np.zeros(self.frames, np.int64)
        spans = {span.id: span for span in latents.spans}
        for info, first in zip(episodes, _firsts(episodes), strict=False):
            span, part = spans[info.id], slice(first, first + info.frames)
            self._shards[part] = span.shard
            self._rows[part] = np.arange(span.start, span.start + info.frames)

    def _resident(self, latents: LatentStore) -> Tensor:
        """Frame i is row i with its past and row frames + i alone, so that one gather serves both."""
        table = torch.empty(2 * self.frames, latents.num_latents, latents.latent_dim, dtype=torch.float16,
                            device=self.home)
        for number, both in self._maps.items():
            here = np.flatnonzero(self._shards == number)
            where = torch.from_numpy(here).to(self.home)
            for part, mapped in enumerate(both):
                table[where + part * self.frames] = torch.from_numpy(mapped[self._rows[here]]).to(self.home)
        return table

    def _from_files(self, frames: Numbers, alone: int) -> Tensor:
        """(b t l e) float16, on the device: run by run of frames that lie side by side in the mapped files."""
        shape = next(iter(self._maps.values()))[0].shape[1:]
        made = torch.empty(*frames.shape, *shape, dtype=torch.float16, pin_memory=self.device.type == "cuda")
        into, shards, rows = made.numpy().reshape(-1, *shape), self._shards[frames].ravel(), self._rows[frames].ravel()
        parts = np.repeat(np.arange(len(frames)) < alone, frames.shape[1]).astype(np.int64)
        begins = (np.diff(rows) != 1) | (np.diff(shards) != 0) | (np.diff(parts) != 0)
        for first, last in pairwise([0, *(np.flatnonzero(begins) + 1).tolist(), len(rows)]):
            mapped, row = self._maps[int(shards[first])][parts[first]], rows[first]
            into[first:last] = mapped[row:row + last - first]
        return made.to(self.device, non_blocking=True)

    def _index(self, numbers: Numbers) -> Tensor:
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


def _firsts(episodes: Sequence[EpisodeInfo]) -> list[int]:
    """Where each episode begins, and the end of the last."""
    return list(accumulate((info.frames for info in episodes), initial=0))


def _columns(store: Store, episodes: Sequence[EpisodeInfo], labelled: AbstractSet[int]) -> dict[str, Numbers]:
    columns, firsts = store.empty_columns(sum(info.frames for info in episodes)), _firsts(episodes)
    for info, first in zip(episodes, firsts, strict=False):
        for name, values in store.columns(info.id).items():
            if info.id in labelled or not of_actions(name):
                columns[name][first:first + info.frames] = values
    return columns


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
