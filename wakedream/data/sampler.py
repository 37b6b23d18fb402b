"""Which windows of which episodes come next: each exactly once per epoch over all ranks, resumable.

All ranks walk one endless sequence, epoch after epoch, and take every world_size-th item. The state is the
place in that sequence, the same on every rank, so a run may go on with another number of ranks.
"""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from wakedream.errors import DataError

_MASK = (1 << 64) - 1
_ROUNDS = 6


def permute(index: int, size: int, key: int) -> int:
    """Where `index` goes in a pseudo-random permutation of 0..size-1 chosen by `key`.

    A Feistel network over the next even power of two, walked until it lands inside: no table, so a data set
    of any size starts and resumes at once, and the order is the same with every version of every library.
    """
    half = max(1, (size - 1).bit_length() + 1 >> 1)
    low_bits = (1 << half) - 1
    while True:
        left, right = index >> half, index & low_bits
        for turn in range(_ROUNDS):
            left, right = right, left ^ (_mix(right + (turn << 32) ^ key) & low_bits)
        index = left << half | right
        if index < size:
            return index


def _mix(value: int) -> int:
    """splitmix64's finaliser."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    value = (value ^ value >> 27) * 0x94D049BB133111EB & _MASK
    return value ^ value >> 31


class WindowSampler:
    """An endless iterator of (episode, start): an index into `lengths` and a first frame.

    lengths     frames per episode; windows lie within one episode, `stride` frames apart
    order       a permutation by (seed, epoch); shuffle=False: in order, every epoch alike
    """

    def __init__(self, lengths: Sequence[int], length: int, *, seed: int, rank: int = 0, world_size: int = 1,
                 shuffle: bool = True, stride: int = 1):
        """DataError when no episode holds a window of `length` frames."""
        assert 0 <= rank < world_size, (rank, world_size)
        assert min(length, stride) >= 1, (length, stride)
        self.length, self.seed, self.shuffle, self.stride = length, seed, shuffle, stride
        self.rank, self.world_size = rank, world_size
        self.too_short = [episode for episode, frames in enumerate(lengths) if frames < length]
        self._ends = list(accumulate(max(0, (frames - length) // stride + 1) for frames in lengths))
        self.num_windows = self._ends[-1] if self._ends else 0
        if not self.num_windows:
            longest = max(lengths, default=0)
            raise DataError(f"no window of {length} frames: there are {len(lengths)} episodes, the longest "
                            f"of {longest} frames; ask for shorter clips, or add longer episodes")
        self.position = 0  # windows handed out over all ranks

    def __iter__(self) -> "WindowSampler":
        return self

    def __next__(self) -> tuple[int, int]:
        window = self.window(self.position + self.rank)
        self.position += self.world_size
        return window

    def window(self, place: int) -> tuple[int, int]:
        """The window at a place of the endless sequence."""
        epoch, index = divmod(place, self.num_windows)
        if self.shuffle:
            index = permute(index, self.num_windows, _mix(_mix(self.seed & _MASK) ^ epoch))
        episode = bisect_right(self._ends, index)
        first = self._ends[episode - 1] if episode else 0
        return episode, (index - first) * self.stride

    def spread(self, count: int, seed: int = 0) -> list[tuple[int, int]]:
        """`count` windows (fewer where there are fewer), spread evenly, the same for the same seed."""
        count = min(count, self.num_windows)
        shift = (seed * 0.6180339887498949 + 0.5) % 1  # where in its even share each window is taken
        return [self.window(int((i + shift) * self.num_windows / count)) for i in range(count)]

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
