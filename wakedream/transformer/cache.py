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
    def place(self) -> list[Tensor]:
        """Where each row stands: after one frame, these put back make the cache what it was before."""
        return [self.frame_ids, self.next_ids, self.segments]

    def expect(self, num_frames: int, segments: FrameIds | None = None) -> "Arrival":
        """The next `num_frames` frames. segments: int64 (b t), by default 0."""
        device = self.next_ids.device
        frame_ids = self.next_ids.unsqueeze(1) + torch.arange(num_frames, device=device)
        rows = torch.arange(frame_ids.shape[0], device=device).unsqueeze(1)
        if segments is None:
            segments = torch.zeros_like(frame_ids)
        slots = frame_ids[:, -self.window :] % self.window  # of a longer run only the end fits the ring
        return Arrival(self, frame_ids, segments, rows, slots)

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
    rows, slots            int64 (b 1) and (b t'): where the last t' <= window of them go
    """

    cache: Cache
    frame_ids: FrameIds
    segments: FrameIds
    rows: Tensor
    slots: Tensor

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
        ring[self.rows, self.slots] = new[:, -self.cache.window :].to(ring.dtype)

    def commit(self) -> None:
        """The new frames are in the ring; after all layers."""
        self.write(self.cache.frame_ids, self.frame_ids)
        self.write(self.cache.segments, self.segments)
        self.cache.next_ids.copy_(self.frame_ids[:, -1] + 1)


@dataclass
class LayerCache:
    """Keys (already rotated) and values of one layer, (b window s g e), slot = frame number mod window."""

    keys: Tensor
    values: Tensor

    def join(self, keys: Tensor, values: Tensor, arrival: Arrival) -> tuple[Tensor, Tensor]:
        """Store the new frames' keys and values (b t s g e); return those they may look at (b k s g e)."""
        return self._join(self.keys, keys, arrival), self._join(self.values, values, arrival)

    def _join(self, ring: Tensor, new: Tensor, arrival: Arrival) -> Tensor:
        joined = ring if arrival.alone else torch.cat((ring.to(new.dtype), new), dim=1)
        arrival.write(ring, new)
        return joined.to(new.dtype)
