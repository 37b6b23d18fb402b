"""What the rows of a batch are made of: which kind each is, and which frames come next."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wakedream.dynamics.config import LatentLoaderConfig
from wakedream.errors import DataError

ROUNDS = 6
BLOCK = 64  # batches
Numbers = np.ndarray


@dataclass(frozen=True)
class Kind:
    """`rows` rows of a batch, each of several windows of `length` frames side by side."""

    name: str
    length: int
    rows: int
    windows: int  # in all rows together


def kinds(config: LatentLoaderConfig) -> list[Kind]:
    """In the order of the rows: images, packed short clips, long clips; without those that have no row."""
    shorts = config.batch_size - config.images - config.longs
    found = [Kind("images", 1, config.images, config.images * config.length),
             Kind("short", config.short, shorts, shorts * config.length // config.short),
             Kind("long", config.length, config.longs, config.longs)]
    return [kind for kind in found if kind.rows]


def row_segments(config: LatentLoaderConfig) -> Tensor:
    """int64 (b t). With 4 frames a row, short clips of 2: images 0 1 2 3, short clips 0 0 1 1, long ones 0 0 0 0."""
    frames = torch.arange(config.length)
    return torch.cat([(frames // kind.length).repeat(kind.rows, 1) for kind in kinds(config)])


class Windows:
    """All windows of `length` frames, each once per epoch, in an order decided by `seed`: an endless sequence.

    As data.sampler.WindowSampler, but for many places at once.
    """

    def __init__(self, lengths: Sequence[int], length: int, seed: int):
        """lengths: frames per episode. DataError when none has so many."""
        frames = np.asarray(lengths, np.int64)
        counts = np.maximum(0, frames - length + 1)
        self.length, self.seed, self.total = length, seed, int(counts.sum())
        if not self.total:
            raise DataError(f"no window of {length} frames: there are {len(frames)} episodes, the longest of "
                            f"{frames.max(initial=0)} frames; ask for shorter clips, or add longer episodes")
        self._ends = counts.cumsum()
        self._shift = (frames.cumsum() - frames) - (self._ends - counts)  # from number of a window to first frame

    def first_frames(self, places: Numbers) -> Numbers:
        """The first frame of the windows at these places of the sequence, all episodes' frames counted in a row."""
        epochs, index = np.divmod(places, self.total)
        for epoch in np.unique(epochs):
            key = np.random.SeedSequence((self.seed, self.length, int(epoch))).generate_state(1, np.uint64)[0]
            index[epochs == epoch] = permute_all(index[epochs == epoch], self.total, int(key))
        return index + self._shift[np.searchsorted(self._ends, index, side="right")]


class Rows:
    """The frames of batch after batch, int64 (b t), all episodes' frames counted in a row.

    Rank r of W gets each W-th window of each kind. The state is the place in the sequence of each kind, the same on
    all ranks, so a run may go on with another number of ranks or rows.
    """

    def __init__(self, lengths: Sequence[int], config: LatentLoaderConfig, *, seed: int, rank: int, world_size: int):
        """DataError when a kind of row has no window."""
        assert 0 <= rank < world_size, (rank, world_size)
        self.rank, self.world_size, self.seed = rank, world_size, seed
        self.kinds = kinds(config)
        self.windows = [Windows(lengths, kind.length, seed) for kind in self.kinds]
        self.positions = {kind.name: 0 for kind in self.kinds}  # windows handed out over all ranks
        self._ahead: deque[Numbers] = deque()

    def __next__(self) -> Numbers:
        if not self._ahead:
            self._ahead.extend(self._batches(BLOCK))
        for kind in self.kinds:
            self.positions[kind.name] += kind.windows * self.world_size
        return self._ahead.popleft()

    def _batches(self, count: int) -> Numbers:
        """The next batches, (count b t): several at once, since numpy's price is by the call."""
        parts = []
        for kind, windows in zip(self.kinds, self.windows, strict=True):
            places = self.positions[kind.name] + self.rank + np.arange(count * kind.windows) * self.world_size
            frames = windows.first_frames(places)[:, None] + np.arange(kind.length)
            parts.append(frames.reshape(count, kind.rows, -1))
        return np.concatenate(parts, axis=1)

    def state_dict(self) -> dict[str, Any]:
        return {"positions": dict(self.positions), **self._identity()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on there; DataError when the state belongs to other data or to clips of other lengths."""
        for name, value in self._identity().items():
            if state.get(name) != value:
                raise DataError(f"the place in the data was kept with {name} {state.get(name)}, now it is {value}: "
                                "resume with the same data and options, or start a new run")
        self.positions = {name: int(state["positions"][name]) for name in self.positions}
        self._ahead.clear()

    def _identity(self) -> dict[str, Any]:
        return {"seed": self.seed, "lengths": {kind.name: kind.length for kind in self.kinds},
                "windows": {k.name: w.total for k, w in zip(self.kinds, self.windows, strict=True)}}


def permute_all(index: Numbers, size: int, key: int) -> Numbers:
    """data.sampler.permute for many numbers at once."""
    half = np.uint64(max(1, (size - 1).bit_length() + 1 >> 1))
    low_bits = np.uint64((1 << int(half)) - 1)
    result = index.astype(np.uint64)
    walking = np.ones(len(result), bool)
    while walking.any():
        left, right = result[walking] >> half, result[walking] & low_bits
        for turn in range(ROUNDS):
            left, right = right, left ^ (_mix((right + np.uint64(turn << 32)) ^ np.uint64(key)) & low_bits)
        result[walking] = left << half | right
        walking = result >= size
    return result.astype(np.int64)


def _mix(value: Numbers) -> Numbers:
    """splitmix64's finaliser; arithmetic wraps around."""
    value = value + np.uint64(0x9E3779B97F4A7C15)
    value = (value ^ value >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ value >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return value ^ value >> np.uint64(31)
