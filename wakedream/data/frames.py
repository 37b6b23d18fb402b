"""Frames side by side in memory, with all that belongs to each: where windows are unpacked, what clips are made of."""

import torch

from wakedream.data.clip import Clip
from wakedream.data.manifest import EpisodeInfo
from wakedream.data.store import Store
from wakedream.data.trajectory import Trajectory


class FrameTable:
    """Rows for `frames` frames of a store, to be filled by `read`; several threads may fill rows of their own.

    video     uint8 (frames c h w) on `device`. In pinned memory its channels lie last, as they are unpacked:
              there the GPU puts them first, elsewhere the copy that is made anyway
    columns   of a trajectory, per frame, on the CPU
    """

    def __init__(self, store: Store, frames: int, device: torch.device | str = "cpu", pinned: bool = False):
        self.store = store
        h, w, c = store.frame_shape
        if pinned:
            self.video = torch.empty(frames, h, w, c, dtype=torch.uint8, pin_memory=True).permute(0, 3, 1, 2)
        else:
            self.video = torch.empty(frames, c, h, w, dtype=torch.uint8, device=device)
        columns = {name: torch.from_numpy(values) for name, values in store.empty_columns(frames).items()}
        self.columns = {name: column.pin_memory() for name, column in columns.items()} if pinned else columns
        self._arrays = {name: column.numpy() for name, column in self.columns.items()}
        self._pixels = self.video.permute(0, 2, 3, 1).numpy() if self.video.device.type == "cpu" else None

    def read(self, info: EpisodeInfo, start: int, stop: int, row: int) -> None:
        """Frames start..stop-1 of an episode into the rows from `row` on; DataError when damaged."""
        rows = slice(row, row + stop - start)
        out = None if self._pixels is None else self._pixels[rows]
        video = self.store.video(info.id, start, stop, out)
        if out is None:  # the GPU puts the channels first
            self.video[rows] = torch.from_numpy(video).to(self.video.device).permute(0, 3, 1, 2)
        for name, values in self.store.columns(info.id, start, stop).items():
            self._arrays[name][rows] = values

    def clip(self, length: int) -> Clip:
        """All rows as windows of `length` frames. Shares the table's memory."""
        columns = {name: column.unflatten(0, (-1, length)) for name, column in self.columns.items()}
        return Clip(self.video.unflatten(0, (-1, length)), Trajectory.of_columns(columns))
