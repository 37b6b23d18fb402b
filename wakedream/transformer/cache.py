"""A ring of the last frames' keys and values, so that the next frame costs the same however many came before.

Keys are stored as they were rotated, by their frame's number, which grows without bound; attention sees only
differences of numbers. Everything is changed in place and waits for nothing, so that a CUDA graph can record it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from wakedream.notation import FrameIds


@dataclass
class Cache:
    """One LayerCache for each time or dense layer, and which frame each ring slot holds.

    frame_ids   int64 (b window): the frame number in each slot, -1 if empty
    next_ids    int64 (b): the number of the next frame, without bound
    segments    int64 (b window): the segment of each slot's frame

    Example with window 3, two rows, the second one reset two frames ago:

        frame_ids   3 4 2      next_ids   5      slot = frame number mod 3: frame 5 takes the slot of frame 2
                    0 1 -1                2
    """

    layers: "dict[int, LayerCache]"
    frame_ids: FrameIds
    next_ids: Tensor
    segments: FrameIds

    @property
    def window(self) -> int:
        return self.frame_ids.shape[1]

    @property
    def num_tokens(self) -> int:
        """Of a frame, those that may be left out among them."""
        return next(iter(self.layers.values())).keys.shape[2]

    @property
    def position(self) -> list[Tensor]:
        """Where each row stands: after one frame, these put back make the cache what it was before."""
        return [self.frame_ids, self.next_ids, self.segments]

    def expect(self, num_frames: int, segments: FrameIds | None = None, frame_ids: FrameIds | None = None,
               committed: int | None = None, rows: Tensor | None = None) -> "Arrival":
        """The next `num_frames` frames. segments: int64 (b t), by default 0; frame_ids: by default those that follow.

        committed: how many of them, from the first on, stay in the ring (default: all). rows: bool (b), in which rows;
        in the others nothing moves on.
        """
        device = self.next_ids.device
        if frame_ids is None:
            frame_ids = self.next_ids.unsqueeze(1) + torch.arange(num_frames, device=device)
        if segments is None:
            segments = torch.zeros_like(frame_ids)
        committed = num_frames if committed is None else committed
        # one frame that is not committed takes its slot all the same: the next look at it finds it there
        written = max(committed, 1) if num_frames == 1 else committed
        fitting = frame_ids[:, max(0, written - self.window) : written]  # of a longer run the end alone
        slots = fitting % self.window
        index = torch.arange(frame_ids.shape[0], device=device).unsqueeze(1)
        return Arrival(self, frame_ids, segments, index, slots, written, committed, rows)

    def state(self, rows: Tensor | None = None) -> "CacheState":
        """A copy of all that is known of the rows (int64, default: all), as if each stood alone."""
        def pick(tensor: Tensor) -> Tensor:
            return tensor.clone() if rows is None else tensor[rows]

        layers = {index: (pick(layer.keys), pick(layer.values)) for index, layer in self.layers.items()}
        return CacheState(layers, [pick(tensor) for tensor in self.position])

    def load(self, state: "CacheState", rows: Tensor | None = None) -> None:
        """The rows (int64, default: all) become those of the state; a state of one row, all of them."""
        def put(target: Tensor, value: Tensor) -> None:
            if rows is None:
                target.copy_(value)
            else:
                target[rows] = value.to(target.device)

        for index, (keys, values) in state.layers.items():
            put(self.layers[index].keys, keys)
            put(self.layers[index].values, values)
        for target, value in zip(self.position, state.position, strict=True):
            put(target, value)

    def part(self, rows: Tensor) -> "Cache":
        """A cache with these rows alone (int64), a copy; `load` its state to put them back."""
        state = self.state(rows)
        return Cache({index: LayerCache(*pair) for index, pair in state.layers.items()}, *state.position)

    def first(self, rows: int) -> "Cache":
        """The first rows alone, as a view: what is written there is written here."""
        layers = {index: LayerCache(layer.keys[:rows], layer.values[:rows]) for index, layer in self.layers.items()}
        return Cache(layers, self.frame_ids[:rows], self.next_ids[:rows], self.segments[:rows])

    def reset(self, rows: Tensor | None = None) -> None:
        """Forget everything, or the rows where bool (b) is True; their next frame is number 0."""
        if rows is None:
            rows = torch.ones_like(self.next_ids, dtype=torch.bool)
        self.frame_ids.masked_fill_(rows.unsqueeze(1), -1)
        self.next_ids.masked_fill_(rows, 0)


@dataclass
class Arrival:
    """New frames on their way into the ring, and what all layers need to know of them: made once per forward.

    One frame alone first takes its slot, then looks at the ring as it lies, in no order: the frame that it replaces
    has just left the window. Several frames look at the ring as it was and at each other.

    frame_ids, segments    int64 (b t): of the new frames
    index, slots           int64 (b 1) and (b t'): where the last t' <= window of those that are written go
    written, committed     how many, from the first on, are written to the ring, and how many count as seen from then on
    rows                   bool (b): in which rows they do; None: in all
    """

    cache: Cache
    frame_ids: FrameIds
    segments: FrameIds
    index: Tensor
    slots: Tensor
    written: int = 1
    committed: int = 1
    rows: Tensor | None = None

    @property
    def alone(self) -> bool:
        return self.frame_ids.shape[1] == 1

    def seen(self) -> tuple[FrameIds, FrameIds]:
        """Frame numbers and segments, int64 (b k), of the keys that `LayerCache.join` returns."""
        cache = self.cache
        if self.alone:
            return (
                cache.frame_ids.scatter(1, self.slots, self.frame_ids),
                cache.segments.scatter(1, self.slots, self.segments),
            )
        return (
            torch.cat((cache.frame_ids, self.frame_ids), dim=1),
            torch.cat((cache.segments, self.segments), dim=1),
        )

    def write(self, ring: Tensor, new: Tensor) -> None:
        """Put what belongs to the new frames, (b t ...), into their slots of a ring (b window ...)."""
        if self.written:
            fitting = new[:, max(0, self.written - self.cache.window) : self.written]
            ring[self.index, self.slots] = fitting.to(ring.dtype)

    def commit(self) -> None:
        """The committed frames count as seen; after all layers. What was written for rows that do not move on lies
        where their next frame will: out of everybody's sight."""
        if not self.committed:
            return
        cache = self.cache
        before = [tensor.clone() for tensor in cache.position] if self.rows is not None else []
        self.write(cache.frame_ids, self.frame_ids)
        self.write(cache.segments, self.segments)
        cache.next_ids.copy_(self.frame_ids[:, self.committed - 1] + 1)
        for tensor, old in zip(cache.position, before, strict=False):
            assert self.rows is not None
            tensor.copy_(torch.where(self.rows.reshape(-1, *[1] * (tensor.ndim - 1)), tensor, old))


@dataclass(frozen=True)
class CacheState:
    """A cache, or rows of it, put aside: keys and values by layer, and where each row stands."""

    layers: dict[int, tuple[Tensor, Tensor]]
    position: list[Tensor]


@dataclass
class LayerCache:
    """Keys (already rotated) and values of one layer, (b window s g e), slot = frame number mod window.

    New frames that are not committed may leave out the last tokens: those of the frames before are then not looked at.
    """

    keys: Tensor
    values: Tensor

    def join(self, keys: Tensor, values: Tensor, arrival: Arrival, *, whole: bool = False) -> tuple[Tensor, Tensor]:
        """Store the new frames' keys and values (b t s g e); return those they may look at (b k s g e). whole: a frame
        alone is given the ring as it lies, with the tokens that it leaves out itself: a part of it would be copied
        wherever frames and tokens are to be one axis."""
        return self._join(self.keys, keys, arrival, whole), self._join(self.values, values, arrival, whole)

    def _join(self, ring: Tensor, new: Tensor, arrival: Arrival, whole: bool) -> Tensor:
        part = ring[:, :, :new.shape[2]]
        joined = (ring if whole else part) if arrival.alone else torch.cat((part.to(new.dtype), new), dim=1)
        arrival.write(part, new)
        return joined.to(new.dtype)
