"""Batches of clips on the device: gathered from a split that is unpacked there, or made ready by threads."""

import threading
import warnings
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from wakedream.data.clip import Clip
from wakedream.data.frames import FrameTable
from wakedream.data.resident import Resident, unpacked_bytes
from wakedream.data.sampler import WindowSampler
from wakedream.data.store import Store
from wakedream.errors import DataError, OwnWarning

MIN_BAD, MAX_BAD_SHARE = 8, 0.01  # so many damaged windows, and this share of all read, stop the run


T = TypeVar("T")


@dataclass
class _Batch:
    clip: Clip
    after: dict[str, Any]  # the sampler's state once this batch has been consumed
    copied: Any = None  # CUDA event: the copy to the device is done


class Loader:
    """An endless iterator of `Clip`s: video uint8 (b t c h w) on `device`, in an order decided by `seed`.

    Rank r of W gets each W-th window: together the ranks share out every window once per epoch. A damaged
    window is replaced by another, counted and named in `bad`; beyond 8 and 1 % of what was read, DataError.
    `state_dict` is the position after the last batch that was handed out, whatever has been prepared beyond it.

    A split of at most `cache_gib` GiB is unpacked whole, here and now, onto the device: batches then cost the
    interpreter next to nothing. Else `workers` threads unpack each batch, `prefetch` batches ahead. Both give
    the same clips.
    """

    def __init__(self, store: Store, *, split: str = "train", batch_size: int, length: int, seed: int = 0,
                 device: torch.device | str = "cpu", rank: int = 0, world_size: int = 1, workers: int = 2,
                 prefetch: int = 4, cache_gib: float | int = 4.0):
        self.store, self.batch_size, self.length = store, batch_size, length
        self.device = torch.device(device)
        self.episodes = store.split(split)
        self.sampler = WindowSampler([info.frames for info in self.episodes], length, seed=seed, rank=rank,
                                     world_size=world_size)
        self.bad: dict[int, str] = {}  # episode -> what is wrong with it
        self.bad_windows = self.read_windows = 0
        self._consumed = self.sampler.state_dict()
        self._mutex = threading.Lock()
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="loader")
        self._prefetch = max(1, prefetch)
        self._ahead: deque[Future[_Batch]] = deque()
        self._stream = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None
        self._resident: Resident | None = None
        if unpacked_bytes(store, self.episodes, length) <= cache_gib * 2**30:
            self._resident = Resident(store, self.episodes, length, self.device, workers, show_progress=rank == 0)

    @property
    def too_short(self) -> list[int]:
        """Episodes with fewer frames than a clip; none of their frames are used."""
        return [self.episodes[index].id for index in self.sampler.too_short]

    def __iter__(self) -> "Loader":
        return self

    def __next__(self) -> Clip:
        if self._resident and self._resident.device == self.device:
            clip = self._gather(self._resident, self._next_positions())
            self._consumed = self.sampler.state_dict()
            return clip
        while len(self._ahead) < self._prefetch:
            self._ahead.append(self._pool.submit(self._prepare, self._next_positions(), self.sampler.state_dict()))
        batch = self._ahead.popleft().result()
        self._consumed = batch.after
        if batch.copied is not None:
            current = torch.cuda.current_stream(self.device)
            current.wait_event(batch.copied)
            for tensor in batch.clip.tensors():
                tensor.record_stream(current)
        return batch.clip

    def state_dict(self) -> dict[str, Any]:
        return dict(self._consumed)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The next batches are those that followed the state; DataError when it belongs to other data."""
        self.sampler.load_state_dict(state)
        for future in self._ahead:
            future.cancel()
        self._ahead.clear()
        self._consumed = self.sampler.state_dict()

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._ahead.clear()
        self._resident = None

    def __enter__(self) -> "Loader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _next_positions(self) -> list[int]:
        first, step = self.sampler.position + self.sampler.rank, self.sampler.world_size
        self.sampler.position += self.batch_size * step
        return [first + i * step for i in range(self.batch_size)]

    def _prepare(self, positions: list[int], after: dict[str, Any]) -> _Batch:
        """In a thread: unpack, or gather from the host's memory, and begin the copy to a GPU."""
        clip = self._gather(self._resident, positions) if self._resident else self._unpack(positions)
        if self._stream is None:
            return _Batch(clip, after)
        with torch.cuda.stream(self._stream):
            clip = (clip.pin_memory() if self._resident else clip).to(self.device, non_blocking=True)
            clip.video = clip.video.contiguous()  # channels first here, where it costs nothing
            copied = torch.cuda.Event()
            copied.record(self._stream)
        return _Batch(clip, after, copied)

    def _gather(self, resident: Resident, positions: list[int]) -> Clip:
        return resident.clip([self._whole_window(position, resident.row) for position in positions])

    def _unpack(self, positions: list[int]) -> Clip:
        length = self.length
        table = FrameTable(self.store, len(positions) * length, pinned=self._stream is not None)
        for i, position in enumerate(positions):
            def read(index: int, start: int, row: int = i * length) -> None:
                table.read(self.episodes[index], start, start + length, row)
            self._whole_window(position, read)
        return table.clip(length)

    def _whole_window(self, position: int, read: Callable[[int, int], T]) -> T:
        """What `read` makes of (index of the episode, start): of the first window from `position` on that is whole."""
        while True:  # ends: `_count_bad` raises long before the whole data set was tried
            index, start = self.sampler.window(position)
            self.read_windows += 1
            try:
                return read(index, start)
            except DataError as error:
                self._count_bad(self.episodes[index].id, error)
                position += 1

    def _count_bad(self, episode: int, error: DataError) -> None:
        with self._mutex:
            self.bad_windows += 1
            first, self.bad[episode] = episode not in self.bad, str(error)
        if self.bad_windows > max(MIN_BAD, MAX_BAD_SHARE * self.read_windows):
            raise DataError(f"{self.bad_windows} of {self.read_windows} windows read are damaged, in "
                            f"episodes {sorted(self.bad)}; the last: {error}") from error
        if first:
            warnings.warn(f"a damaged window was replaced by another: {error}", OwnWarning, stacklevel=2)


def evaluation_clips(store: Store, split: str, count: int, length: int, seed: int = 0) -> Clip:
    """`count` fixed clips on the CPU, spread evenly over the episodes of `split`; the same for the same seed.

    Fewer when the split has fewer windows. DataError when it has none, or one of them is damaged.
    """
    return clips_at(store, evaluation_windows(store, split, count, length, seed), length)


def clips_at(store: Store, windows: list[tuple[int, int]], length: int) -> Clip:
    """The clips of `length` frames that begin at (episode, first frame), on the CPU. DataError when one is damaged."""
    episodes = {info.id: info for info in store.episodes}
    table = FrameTable(store, len(windows) * length)
    for i, (episode, start) in enumerate(windows):
        table.read(episodes[episode], start, start + length, i * length)
    return table.clip(length)


def evaluation_windows(store: Store, split: str, count: int, length: int, seed: int = 0) -> list[tuple[int, int]]:
    """(episode, first frame) of each of `evaluation_clips`."""
    episodes = store.split(split)
    sampler = WindowSampler([info.frames for info in episodes], length, seed=seed, shuffle=False)
    return [(episodes[index].id, start) for index, start in sampler.spread(count, seed)]
