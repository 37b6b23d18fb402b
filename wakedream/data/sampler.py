"""Which windows of which episodes come next: each exactly once per epoch over all ranks, resumable.

All ranks walk one endless sequence, epoch after epoch, and take every world_size-th item. The state is the
position in that sequence, the same on every rank, so a run may go on with another number of ranks.
"""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from wakedream.config import check_seed
from wakedream.errors import DataError

Numbers = np.ndarray
_ROUNDS = 6
_BLOCK = 4096  # windows found at once: numpy's price is by the call


def shuffled(positions: np.ndarray, total: int, *seed: int) -> np.ndarray:
    """The numbers 0 to total - 1 at these positions of an endless sequence, in which each comes once per epoch, in an
    order decided by `seed` and the epoch."""
    epochs, index = np.divmod(positions, total)
    for epoch in np.unique(epochs):
        key = np.random.SeedSequence((*seed, int(epoch))).generate_state(1, np.uint64)[0]
        index[epochs == epoch] = permute(index[epochs == epoch], total, int(key))
    return index


def permute(index: Numbers | int, size: int, key: Numbers | int) -> Numbers:
    """Where each `index` (...) goes in a pseudo-random permutation of 0..size-1 chosen by `key`, one or uint64 (...).

    A Feistel network over the next even power of two, walked until it lands inside: no table, so a data set
    of any size starts and resumes at once, and the order is the same with every version of every library.
    """
    half = np.uint64(max(1, (size - 1).bit_length() + 1 >> 1))
    low_bits = np.uint64((1 << int(half)) - 1)
    result = np.array(index, np.uint64)
    keys, walking = np.broadcast_to(np.asarray(key, np.uint64), result.shape), np.ones(result.shape, bool)
    while walking.any():
        left, right = result[walking] >> half, result[walking] & low_bits
        for turn in range(_ROUNDS):
            left, right = right, left ^ (mix((right + np.uint64(turn << 32)) ^ keys[walking]) & low_bits)
        result[walking] = left << half | right
        walking = result >= size
    return result.astype(np.int64)


def mix(value: Numbers) -> Numbers:
    """splitmix64's finaliser, of uint64; arithmetic wraps around."""
    value = value + np.uint64(0x9E3779B97F4A7C15)
    value = (value ^ value >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ value >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return value ^ value >> np.uint64(31)


class WindowSampler:
    """An endless iterator of (episode, start): an index into `lengths` and a first frame.

    lengths     frames per episode; windows lie within one episode, `stride` frames apart
    order       a permutation by (seed, epoch); shuffle=False: in order, every epoch alike
    """

    def __init__(self, lengths: Sequence[int], length: int, *, seed: int, rank: int = 0, world_size: int = 1,
                 shuffle: bool = True, stride: int = 1):
        """DataError when no episode holds a window of `length` frames; ConfigError for a seed below 0."""
        check_seed(seed, "the sampler's seed is")
        assert 0 <= rank < world_size, (rank, world_size)
        assert min(length, stride) >= 1, (length, stride)
        self.length, self.seed, self.shuffle, self.stride = length, seed, shuffle, stride
        self.rank, self.world_size = rank, world_size
        self.too_short = [episode for episode, frames in enumerate(lengths) if frames < length]
        self._ends = np.cumsum([max(0, (frames - length) // stride + 1) for frames in lengths], dtype=np.int64)
        self.num_windows = int(self._ends[-1]) if len(self._ends) else 0
        if not self.num_windows:
            longest = max(lengths, default=0)
            raise DataError(f"no window of {length} frames: there are {len(lengths)} episodes, the longest "
                            f"of {longest} frames; ask for shorter clips (--loader.length in training, --length of "
                            "evaluate), or add longer episodes")
        self.position = 0  # windows handed out over all ranks
        self._block = functools.lru_cache(4)(self._find_block)  # threads may be in several

    def __iter__(self) -> "WindowSampler":
        return self

    def __next__(self) -> tuple[int, int]:
        window = self.window(self.position + self.rank)
        self.position += self.world_size
        return window

    def window(self, position: int) -> tuple[int, int]:
        """The window at a position of the endless sequence."""
        return self._block(position // _BLOCK)[position % _BLOCK]

    def _find_block(self, block: int) -> list[tuple[int, int]]:
        return self.windows(range(block * _BLOCK, (block + 1) * _BLOCK))

    def windows(self, positions: Sequence[int]) -> list[tuple[int, int]]:
        """Those at several positions."""
        epochs, index = np.divmod(np.asarray(positions, np.int64), self.num_windows)
        if self.shuffle:
            seed = mix(np.full(1, self.seed, np.uint64))
            index = permute(index, self.num_windows, mix(seed ^ epochs.astype(np.uint64)))
        episodes = np.searchsorted(self._ends, index, side="right")
        firsts = np.where(episodes > 0, self._ends[episodes - 1], 0)
        return list(zip(episodes.tolist(), ((index - firsts) * self.stride).tolist(), strict=True))

    def spread(self, count: int, seed: int = 0) -> list[tuple[int, int]]:
        """`count` windows (fewer where there are fewer), spread evenly, the same for the same seed."""
        count = min(count, self.num_windows)
        shift = (seed * 0.6180339887498949 + 0.5) % 1  # where in its even share each window is taken
        return self.windows([int((i + shift) * self.num_windows / count) for i in range(count)])

    @property
    def epoch(self) -> int:
        return self.position // self.num_windows

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position, **self._identity()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on there; DataError when the state belongs to other data or another clip length."""
        for name, value in self._identity().items():
            if state.get(name) != value:
                raise DataError(f"the place in the data was kept with {name} {state.get(name)}, now it is "
                                f"{value}: resume with the same data and options, or start a new run")
        self.position = int(state["position"])

    def _identity(self) -> dict[str, Any]:
        return {"num_windows": self.num_windows, "length": self.length, "stride": self.stride,
                "seed": self.seed, "shuffle": self.shuffle}
