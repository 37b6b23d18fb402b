"""Batches of clips, made ready by threads and copied to the device before they are asked for."""

import threading
import warnings
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from wakedream.data.clip import Clip
from wakedream.data.codec import CHUNK_FRAMES
from wakedream.data.episode import Episode
from wakedream.data.manifest import EpisodeInfo
from wakedream.data.sampler import WindowSampler
from wakedream.data.store import FrameCache, Store
from wakedream.errors import DataError

MIN_BAD, MAX_BAD_SHARE = 8, 0.01  # so many damaged windows, and this share of all read, stop the run


@dataclass
class _Batch:
    clip: Clip
    after: dict[str, Any]  # the sampler's state once this batch has been consumed
    copied: Any = None  # CUDA event: the copy to the device is done


class Loader:
    """An endless iterator of `Clip`s: video uint8 (b t c h w) on `device`, in an order decided by `seed`.

    Rank r of W gets each W-th window: together the ranks share out every window once per epoch. A damaged
    window is replaced by another, counted and named in `bad`; beyond 8 and 1 % of what was read, DataError.
    `state_dict` is the place after the last batch that was handed out, whatever has been prepared beyond it.
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
        self._cache: FrameCache = {}
        self._room = int(cache_gib * 2**30)
        self._mutex = threading.Lock()
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="loader")
        self._prefetch = max(1, prefetch)
        self._ahead: deque[Future[_Batch]] = deque()
        self._stream = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None

    @property
    def too_short(self) -> list[int]:
        """Episodes with fewer frames than a clip; none of their frames are used."""
        return [self.episodes[index].id for index in self.sampler.too_short]

    def __iter__(self) -> "Loader":
        return self

    def __next__(self) -> Clip:
        while len(self._ahead) < self._prefetch:
            places = [self.sampler.position + self.sampler.rank + i * self.sampler.world_size
                      for i in range(self.batch_size)]
            self.sampler.position += self.batch_size * self.sampler.world_size
            self._ahead.append(self._pool.submit(self._prepare, places, self.sampler.state_dict()))
        batch = self._ahead.popleft().result()
        self._consumed = batch.after
        if batch.copied is not None:
            current = torch.cuda.current_stream(self.device)
            current.wait_event(batch.copied)
            for tensor in _tensors(batch.clip):
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
        self._cache.clear()

    def __enter__(self) -> "Loader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _prepare(self, places: list[int], after: dict[str, Any]) -> _Batch:
        clip = _collate([self._window(place) for place in places], self.store)
        if self._stream is None:
            clip.video = clip.video.contiguous()
            return _Batch(clip, after)
        with torch.cuda.stream(self._stream):
            clip = clip.pin_memory().to(self.device, non_blocking=True)
            clip.video = clip.video.contiguous()  # channels first here, where it costs nothing
            copied = torch.cuda.Event()
            copied.record(self._stream)
        return _Batch(clip, after, copied)

    def _window(self, place: int) -> Episode:
        while True:  # ends: `_count_bad` raises long before the whole data set was tried
            index, start = self.sampler.window(place)
            info = self.episodes[index]
            self.read_windows += 1
            try:
                return self._read(info, start)
            except DataError as error:
                self._count_bad(info.id, error)
                place += 1

    def _read(self, info: EpisodeInfo, start: int) -> Episode:
        if self._room > 0 or self._cache:
            for chunk in range(start // CHUNK_FRAMES, (start + self.length - 1) // CHUNK_FRAMES + 1):
                if self._room > 0 and (info.id, chunk) not in self._cache:
                    frames = self.store.read_chunk(info.id, chunk)
                    with self._mutex:
                        self._room -= 0 if (info.id, chunk) in self._cache else frames.nbytes
                        self._cache[info.id, chunk] = frames
        return self.store.read(info.id, start, start + self.length, self._cache)

    def _count_bad(self, episode: int, error: DataError) -> None:
        with self._mutex:
            self.bad_windows += 1
            first, self.bad[episode] = episode not in self.bad, str(error)
        if self.bad_windows > max(MIN_BAD, MAX_BAD_SHARE * self.read_windows):
            raise DataError(f"{self.bad_windows} of {self.read_windows} windows read are damaged, in "
                            f"episodes {sorted(self.bad)}; the last: {error}") from error
        if first:
            warnings.warn(f"a damaged window was replaced by another: {error}", stacklevel=2)


def evaluation_clips(store: Store, split: str, count: int, length: int, seed: int = 0) -> Clip:
    """`count` fixed clips on the CPU, spread evenly over the episodes of `split`; the same for the same seed.

    Fewer when the split has fewer windows. DataError when it has none, or one of them is damaged.
    """
    episodes = store.split(split)
    sampler = WindowSampler([info.frames for info in episodes], length, seed=seed, shuffle=False)
    count = min(count, sampler.num_windows)
    shift = (seed * 0.6180339887498949 + 0.5) % 1  # where in its even share each clip is taken
    places = [int((i + shift) * sampler.num_windows / count) for i in range(count)]
    windows = [sampler.window(place) for place in places]
    clip = _collate([store.read(episodes[e].id, start, start + length) for e, start in windows], store)
    clip.video = clip.video.contiguous()
    return clip


def _collate(windows: Sequence[Episode], store: Store) -> Clip:
    """Stack. Video (b t c h w), still with channels last in memory. An extra that an episode lacks is NaN."""
    def stack(arrays: list[np.ndarray]) -> torch.Tensor:
        return torch.from_numpy(np.stack(arrays))

    t = len(windows[0].video)
    terminated = np.zeros((len(windows), t), bool)
    terminated[:, -1] = [window.terminated for window in windows]
    absent = np.full(t, np.nan, np.float32)
    names = [component.name for component in store.spec.components]
    return Clip(
        video=stack([window.video for window in windows]).permute(0, 1, 4, 2, 3),
        actions={name: stack([window.actions[name] for window in windows]) for name in names},
        has_action=stack([window.has_action for window in windows]),
        rewards=stack([window.rewards for window in windows]),
        terminated=torch.from_numpy(terminated),
        extras={name: stack([w.extras.get(name, absent) for w in windows]) for name in store.extras})


def _tensors(clip: Clip) -> list[torch.Tensor]:
    kept = [clip.video, clip.has_action, clip.rewards, clip.terminated]
    return [tensor for tensor in kept if tensor is not None] + [*clip.actions.values(), *clip.extras.values()]
