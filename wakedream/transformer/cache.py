"""A ring of the last frames' keys and values, so that the next frame costs the same however many came before."""

from dataclasses import dataclass

import torch
from torch import Tensor

from wakedream.notation import FrameIds


@dataclass
class LayerCache:
    """Keys (already rotated) and values of one layer, (b window s g e), slot = frame number mod window."""

    keys: Tensor
    values: Tensor


@dataclass
class Cache:
    """One LayerCache for each time or dense layer, and which frame each ring slot holds.

    frame_ids   int64 (b window): the frame number in each slot, -1 if empty
    next_ids    int64 (b): the number of the next frame, without bound
    segments    int64 (b window): the segment of each slot's frame
    """

    layers: dict[int, LayerCache]
    frame_ids: FrameIds
    next_ids: Tensor
    segments: FrameIds

    @property
    def window(self) -> int:
        return self.frame_ids.shape[1]

    def upcoming(self, num_frames: int) -> FrameIds:
        """Frame numbers (b t) of the next `num_frames` frames."""
        return self.next_ids.unsqueeze(1) + torch.arange(num_frames, device=self.next_ids.device)

    def store(self, index: int, frame_ids: FrameIds, keys: Tensor, values: Tensor) -> None:
        """Write the new frames' keys and values (b t s g e) of one layer into the ring."""
        rows, slots, last = self._slots(frame_ids)
        self.layers[index].keys[rows, slots] = keys[:, last:]
        self.layers[index].values[rows, slots] = values[:, last:]

    def advance(self, frame_ids: FrameIds, segments: FrameIds) -> None:
        """Mark the new frames as stored; once per forward, after all layers."""
        rows, slots, last = self._slots(frame_ids)
        self.frame_ids[rows, slots] = frame_ids[:, last:]
        self.segments[rows, slots] = segments[:, last:]
        self.next_ids = frame_ids[:, -1] + 1

    def reset(self, rows: Tensor) -> None:
        """Forget everything for the rows where bool (b) is True; their next frame is number 0."""
        self.frame_ids[rows] = -1
        self.next_ids = torch.where(rows, 0, self.next_ids)

    def _slots(self, frame_ids: FrameIds) -> tuple[Tensor, Tensor, int]:
        last = max(frame_ids.shape[1] - self.window, 0)  # of a longer run only the end fits the ring
        rows = torch.arange(frame_ids.shape[0], device=frame_ids.device).unsqueeze(1)
        return rows, frame_ids[:, last:] % self.window, last
