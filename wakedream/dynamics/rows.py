"""What the rows of a batch are made of: which kind each is, and which frames come next."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wakedream.data.sampler import shuffled
from wakedream.dynamics.config import LatentLoaderConfig
from wakedream.errors import DataError

BLOCK = 64  # batches
IMAGES, SHORT, LONG = "images", "short", "long"
Numbers = np.ndarray


@dataclass(frozen=True)
class RowKind:
    """A kind of row: several windows of `length` frames side by side; `share` of all rows are of it."""

    name: str
    length: int
    share: float
    windows: int  # in one row


class Mix:
    """How many rows of each kind a batch has: always the same; or, where the batch is too small for one of each, as its
    share is due, carried over from batch to batch.

    Four batches of 2 rows, a quarter of them images, the others long: 1 1, 0 2, 1 1, 0 2.
    """

    def __init__(self, config: LatentLoaderConfig):
        short = 1 - config.image_fraction - config.long_fraction
        known = [RowKind(IMAGES, 1, config.image_fraction, config.length),
                 RowKind(SHORT, config.short, max(0.0, short), config.length // config.short),
                 RowKind(LONG, config.length, config.long_fraction, 1)]
        usual = {IMAGES: config.images, SHORT: config.batch_size - config.images - config.longs, LONG: config.longs}
        self.batch_size = config.batch_size
        self.varies = any(kind.share > 1e-9 and not usual[kind.name] for kind in known)
        self.kinds = [kind for kind in known if (kind.share > 1e-9 if self.varies else usual[kind.name])]
        self._usual = {kind.name: usual[kind.name] for kind in self.kinds}

    def counts(self, given: dict[str, int]) -> dict[str, int]:
        """Rows of each kind in the next batch, after `given` rows of each in all before it."""
        if not self.varies:
            return self._usual
        counts, total = dict.fromkeys(self._usual, 0), sum(given.values())
        for number in range(total + 1, total + self.batch_size + 1):
            due = {kind.name: kind.share * number - given[kind.name] - counts[kind.name] for kind in self.kinds}
            counts[max(due, key=due.__getitem__)] += 1
        return counts

    def names(self, counts: dict[str, int]) -> list[int]:
        """The kind of each row of a batch, as a number of `kinds`, in their order."""
        return [number for number, kind in enumerate(self.kinds) for _ in range(counts[kind.name])]

    def segments(self, length: int) -> Tensor:
        """int64 (kinds t). With 4 frames a row, short clips of 2: images 0 1 2 3, short clips 0 0 1 1, long ones 0."""
        frames = torch.arange(length)
        return torch.stack([frames // kind.length for kind in self.kinds])


def row_segments(config: LatentLoaderConfig) -> Tensor:
    """int64 (b t), of a run's first batch."""
    mix = Mix(config)
    return mix.segments(config.length)[mix.names(mix.counts(dict.fromkeys((k.name for k in mix.kinds), 0)))]


class Windows:
    """All windows of `length` frames, each once per epoch, in an order decided by `seed`: an endless sequence.

    As data.sampler.WindowSampler, but by the frame, all episodes' frames counted in a row.
    """

    def __init__(self, lengths: Sequence[int], length: int, seed: int):
        """lengths: frames per episode. DataError when none has so many."""
        frames = np.asarray(lengths, np.int64)
        counts = np.maximum(0, frames - length + 1)
        self.length, self.seed, self.total = length, seed, int(counts.sum())
        if not self.total:
            raise DataError(f"no window of {length} frames: there are {len(frames)} episodes, the longest of "
                            f"{frames.max(initial=0)} frames; ask for shorter clips (--loader.length), or add longer "
                            "episodes")
        self._ends = counts.cumsum()
        self._shift = (frames.cumsum() - frames) - (self._ends - counts)  # from number of a window to first frame

    def first_frames(self, positions: Numbers) -> Numbers:
        """The first frame of the windows at these positions of the sequence."""
        index = shuffled(positions, self.total, self.seed, self.length)
        return index + self._shift[np.searchsorted(self._ends, index, side="right")]


class Rows:
    """The frames of batch after batch, int64 (b t), all episodes' frames counted in a row, and the kind of each row.

    Rank r of W gets each W-th window of each kind. The state is the position in the sequence of each kind, the same on
    all ranks, so a run may go on with another number of ranks or rows.
    """

    def __init__(self, lengths: Sequence[int], config: LatentLoaderConfig, *, seed: int, rank: int, world_size: int):
        """DataError when a kind of row has no window."""
        assert 0 <= rank < world_size, (rank, world_size)
        self.rank, self.world_size, self.seed = rank, world_size, seed
        self.mix = Mix(config)
        self.windows = {kind.name: Windows(lengths, kind.length, seed) for kind in self.mix.kinds}
        self.positions = dict.fromkeys(self.windows, 0)  # windows handed out over all ranks
        self._ahead: deque[tuple[Numbers, dict[str, int]]] = deque()

    def __next__(self) -> tuple[Numbers, dict[str, int]]:
        """The frames, and how many rows of each kind, in the order of `mix.kinds`."""
        if not self._ahead:
            self._ahead.extend(self._batches(BLOCK))
        frames, counts = self._ahead.popleft()
        for kind in self.mix.kinds:
            self.positions[kind.name] += counts[kind.name] * kind.windows * self.world_size
        return frames, counts

    def _batches(self, count: int) -> list[tuple[Numbers, dict[str, int]]]:
        """The next batches, several at once, since numpy's price is by the call."""
        given = {kind.name: self.positions[kind.name] // (kind.windows * self.world_size) for kind in self.mix.kinds}
        planned = []
        for _ in range(count):
            planned.append(self.mix.counts(given))
            given = {name: rows + planned[-1][name] for name, rows in given.items()}
        parts: list[list[Numbers]] = [[] for _ in range(count)]
        for kind in self.mix.kinds:
            rows = [counts[kind.name] for counts in planned]
            steps = np.arange(sum(rows) * kind.windows) * self.world_size
            frames = self.windows[kind.name].first_frames(self.positions[kind.name] + self.rank + steps)
            frames = (frames[:, None] + np.arange(kind.length)).reshape(sum(rows), -1)
            for part, made in zip(parts, np.split(frames, np.cumsum(rows)[:-1]), strict=True):
                part.append(made)
        return [(np.concatenate(part), counts) for part, counts in zip(parts, planned, strict=True)]

    def state_dict(self) -> dict[str, Any]:
        return {"positions": dict(self.positions), **self._identity()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on there; DataError when the state belongs to other data or to clips of other lengths."""
        kept, absent = state["positions"], {name for name in self.positions if name not in state["positions"]}
        absent = absent if self.mix.varies else set()  # small batches once had not all kinds of rows
        for name, value in self._identity().items():
            known = {kind: number for kind, number in value.items() if kind not in absent} if name != "seed" else value
            if state.get(name) != known:
                raise DataError(f"the place in the data was kept with {name} {state.get(name)}, now it is {value}: "
                                "resume with the same data and options, or start a new run")
        self.positions = {name: int(kept[name]) for name in self.positions if name not in absent}
        if absent:
            self._catch_up()
        self._ahead.clear()

    def _catch_up(self) -> None:
        """As if all kinds had been given by their shares: what is absent is not made up for, batch after batch."""
        windows = {kind.name: kind.windows * self.world_size for kind in self.mix.kinds}
        rows = max(self.positions[kind.name] / windows[kind.name] / kind.share
                   for kind in self.mix.kinds if kind.name in self.positions)
        self.positions = {kind.name: max(self.positions.get(kind.name, 0),
                                         round(rows * kind.share) * windows[kind.name]) for kind in self.mix.kinds}

    def _identity(self) -> dict[str, Any]:
        return {"seed": self.seed, "lengths": {kind.name: kind.length for kind in self.mix.kinds},
                "windows": {name: windows.total for name, windows in self.windows.items()}}
