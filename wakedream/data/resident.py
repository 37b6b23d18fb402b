"""A split unpacked once, where training wants it: a batch is then one gather, without threads or decoding."""

import math
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate

import torch
from torch import Tensor

from wakedream.data.clip import Clip
from wakedream.data.codec import CHUNK_FRAMES
from wakedream.data.frames import FrameTable
from wakedream.data.manifest import EpisodeInfo
from wakedream.data.store import Store
from wakedream.data.trajectory import Trajectory
from wakedream.errors import DataError
from wakedream.progress import late_bar

PIECE_FRAMES = 16 * CHUNK_FRAMES  # unpacked at a time by a thread


def unpacked_bytes(store: Store, episodes: Sequence[EpisodeInfo], length: int) -> int:
    """The frames of all episodes that hold a clip of `length` frames."""
    return math.prod(store.frame_shape) * sum(info.frames for info in episodes if info.frames >= length)


class Resident:
    """The episodes on `device`; on the host, with a warning, where they would take over half of its free memory.

    A damaged chunk stops nothing here: `row` refuses the windows that touch it.
    """

    def __init__(self, store: Store, episodes: Sequence[EpisodeInfo], length: int, device: torch.device,
                 workers: int, show_progress: bool = True):
        self.episodes, self.length = episodes, length
        self.damage: dict[tuple[int, int], str] = {}  # (index of the episode, chunk) -> what is wrong
        rows = [info.frames if info.frames >= length else 0 for info in episodes]
        self._first = [0, *accumulate(rows)]
        self.device = _device_with_room(device, unpacked_bytes(store, episodes, length))
        table = FrameTable(store, self._first[-1], self.device)
        self._unpack(table, workers, show_progress)
        self._video = table.video
        self._tables = _joined_by_kind(table.columns, self.device)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)  # the threads' copies are done, for whatever stream reads them

    def row(self, index: int, start: int) -> int:
        """Where the window begins that starts at frame `start` of an episode; DataError when it is damaged."""
        if self.damage:
            for chunk in range(start // CHUNK_FRAMES, (start + self.length - 1) // CHUNK_FRAMES + 1):
                if (index, chunk) in self.damage:
                    raise DataError(self.damage[index, chunk])
        return self._first[index] + start

    def clip(self, rows: Sequence[int]) -> Clip:
        """The windows that begin at these rows, (b t ...) on `device`. Never waits for a GPU."""
        where = torch.tensor(rows, pin_memory=self.device.type == "cuda").to(self.device, non_blocking=True)
        columns: dict[str, Tensor] = {}
        for names, table in self._tables:
            windows = self._windows(table, where)
            columns |= {names[0]: windows} if len(names) == 1 else zip(
                names, windows.movedim(-1, 0).contiguous().unbind(), strict=True)
        return Clip(self._windows(self._video, where), Trajectory.of_columns(columns))

    def _windows(self, tensor: Tensor, where: Tensor) -> Tensor:
        """(frames ...) -> (b t ...): from a view of all windows, each a run of memory, which is copied whole."""
        size = tensor[0].numel()
        windows = tensor.as_strided((len(tensor) - self.length + 1, self.length * size), (size, 1))
        return windows.index_select(0, where).view(len(where), self.length, *tensor.shape[1:])

    def _unpack(self, table: FrameTable, workers: int, show_progress: bool) -> None:
        pieces = [(index, start) for index, info in enumerate(self.episodes) if info.frames >= self.length
                  for start in range(0, info.frames, PIECE_FRAMES)]
        with (ThreadPoolExecutor(workers, thread_name_prefix="unpack") as pool,
              late_bar("unpacking", self._first[-1], "frames", show_progress) as advance):
            for frames in pool.map(lambda piece: self._unpack_piece(table, *piece), pieces):
                advance(frames)

    def _unpack_piece(self, table: FrameTable, index: int, start: int) -> int:
        info, first = self.episodes[index], self._first[index]
        stop = min(start + PIECE_FRAMES, info.frames)
        try:
            table.read(info, start, stop, first + start)
        except DataError:  # find out which chunks it is
            for at in range(start, stop, CHUNK_FRAMES):
                try:
                    table.read(info, at, min(at + CHUNK_FRAMES, stop), first + at)
                except DataError as error:
                    self.damage[index, at // CHUNK_FRAMES] = str(error)
        return stop - start


def _joined_by_kind(columns: dict[str, Tensor], device: torch.device) -> list[tuple[list[str], Tensor]]:
    """All columns of one number a frame and one type as one tensor (frames n): a gather for each type, not for each of
    what may be dozens of events. Others stay alone."""
    kinds: dict[object, list[str]] = {}
    for name, column in columns.items():
        kinds.setdefault(column.dtype if column.ndim == 1 else name, []).append(name)
    return [(names, columns[names[0]].to(device) if len(names) == 1 else
             torch.stack([columns[name] for name in names], dim=-1).to(device)) for names in kinds.values()]


def _device_with_room(device: torch.device, size: int) -> torch.device:
    if device.type != "cuda":
        return device
    free, _ = torch.cuda.mem_get_info(device)
    if size <= free / 2:
        return device
    warnings.warn(f"the unpacked frames, {size / 2**30:.1f} GiB, are over half of the free memory of {device}, "
                  f"{free / 2**30:.1f} GiB: they stay in the host's memory, which is a little slower", stacklevel=4)
    return torch.device("cpu")
