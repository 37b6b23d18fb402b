"""The store: a folder of shards and a manifest. Any window of any episode, read without decoding the rest."""

import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wakedream.data.actions import Actions, ActionSpec
from wakedream.data.codec import CHUNK_FRAMES
from wakedream.data.episode import Episode
from wakedream.data.manifest import EpisodeInfo, Manifest, read_manifest, repair, shard_path
from wakedream.data.shard import Arrays, Shard, decode, file_sha256
from wakedream.data.trajectory import Columns
from wakedream.data.writer import StoreWriter
from wakedream.errors import DataError

__all__ = ["Damage", "Store", "StoreWriter", "verify_shard"]


@dataclass(frozen=True)
class Damage:
    """What is wrong with a shard, or with one episode in it."""

    shard: int
    episode: int | None
    message: str


class Store:
    """A data set opened for reading: `Store.open(path)`. Safe to share among threads."""

    def __init__(self, path: Path, manifest: Manifest):
        self.path, self.manifest = path, manifest
        self.episodes = list(manifest.episodes)
        self._by_id = {info.id: info for info in self.episodes}
        self.extras = tuple(sorted({name for info in self.episodes for name in info.extras}))  # that any episode has
        self._shards: dict[int, Shard] = {}
        self._arrays: dict[int, Arrays] = {}
        self._mutex = threading.Lock()

    @classmethod
    def open(cls, path: Path | str) -> "Store":
        """DataError when `path` is not a data set, was interrupted, is damaged or of a newer format."""
        manifest = read_manifest(Path(path))
        if not manifest.episodes:
            raise DataError(f"the data set {path} has no episodes")
        return cls(Path(path), manifest)

    @property
    def spec(self) -> ActionSpec:
        return self.manifest.header.actions

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        return self.manifest.header.frame_shape

    @property
    def fingerprint(self) -> str:
        return self.manifest.fingerprint

    def split(self, name: str) -> list[EpisodeInfo]:
        """The episodes of "train" or "held_out"."""
        if name not in ("train", "held_out"):
            raise DataError(f"there is no split '{name}': expected train or held_out")
        return [info for info in self.episodes if info.split == name]

    def frames(self, split: str | None = None) -> int:
        return sum(info.frames for info in (self.split(split) if split else self.episodes))

    def read(self, episode_id: int, start: int = 0, stop: int | None = None,
             out: np.ndarray | None = None) -> Episode:
        """Frames start..stop-1 of an episode; `terminated`, `truncated` only if its last frame is among them.

        Decodes only the chunks touched, into `out`, uint8 (t h w c), if given. DataError when damaged.
        """
        info = self._by_id[episode_id]
        stop = info.frames if stop is None else stop
        if not 0 <= start < stop <= info.frames:
            raise DataError(f"episode {episode_id} has {info.frames} frames, asked for {start}..{stop - 1}")
        video = np.empty((stop - start, *self.frame_shape), np.uint8) if out is None else out
        try:
            arrays = self._episode_arrays(info)
            self._read_video(info, arrays, start, stop, video)
        except DataError as error:
            raise self._named(info, error) from error
        last, window = stop == info.frames, slice(start, stop)
        return Episode(
            video, {c.name: arrays[f"actions/{c.name}"][window] for c in self.spec.components},
            arrays["has_action"][window], arrays["rewards"][window],
            info.terminated and last, info.truncated and last,
            {name: arrays[f"extras/{name}"][window] for name in info.extras}, info.info)

    def actions(self, episode_id: int) -> tuple[Actions, np.ndarray]:
        """An episode's actions by component and has_action, bool (t): no frame is decoded. DataError when damaged."""
        info = self._by_id[episode_id]
        try:
            arrays = self._episode_arrays(info)
        except DataError as error:
            raise self._named(info, error) from error
        return {c.name: arrays[f"actions/{c.name}"] for c in self.spec.components}, arrays["has_action"]

    def columns(self, episode_id: int, start: int = 0, stop: int | None = None) -> Columns:
        """Frames start..stop-1 of an episode as a trajectory's columns, all that `empty_columns` has: no frame is
        decoded. DataError when damaged."""
        info = self._by_id[episode_id]
        stop = info.frames if stop is None else stop
        try:
            arrays = self._episode_arrays(info)
        except DataError as error:
            raise self._named(info, error) from error
        window = slice(start, stop)
        found = {name: arrays[name][window] if name in arrays else column
                 for name, column in self.empty_columns(stop - start).items()}
        found["has_reward"] = found["has_action"]
        for name, ended in (("terminated", info.terminated), ("truncated", info.truncated)):
            found[name][-1:] = ended and stop == info.frames
        return found

    def empty_columns(self, frames: int) -> Columns:
        """A trajectory's columns for so many frames of which nothing is known; extras are not a number."""
        columns = {name: np.zeros(frames, bool) for name in ("has_action", "has_reward", "terminated", "truncated")}
        columns |= {"rewards": np.zeros(frames, np.float32), "task": np.zeros(frames, np.int64)}
        columns |= {f"actions/{name}": values for name, values in self.spec.placeholder(frames).items()}
        return columns | {f"extras/{name}": np.full(frames, np.nan, np.float32) for name in self.extras}

    def verify(self) -> list[Damage]:
        """Compare every byte with the checksums; what is damaged, located. Empty when all is well."""
        damages = []
        for about in self.manifest.shards:
            path = shard_path(self.path, about.number)
            infos = [info for info in self.episodes if info.shard == about.number]
            found = verify_shard(path, infos)
            if not found and file_sha256(path) != about.sha256:
                found = [Damage(about.number, None, f"the shard {path} differs from its checksum, "
                                                    "but no episode in it does")]
            damages += found
        return damages

    def _named(self, info: EpisodeInfo, error: DataError) -> DataError:
        return DataError(f"episode {info.id} of {self.path}: {error}; {repair(self.path)}")

    def _shard(self, number: int) -> Shard:
        with self._mutex:
            if number not in self._shards:
                self._shards[number] = Shard(shard_path(self.path, number))
            return self._shards[number]

    def _episode_arrays(self, info: EpisodeInfo) -> Arrays:
        if info.id not in self._arrays:  # verified once; a race only does it twice
            self._arrays[info.id] = self._shard(info.shard).episode_arrays(info)
        return self._arrays[info.id]

    def _read_video(self, info: EpisodeInfo, arrays: Arrays, start: int, stop: int, out: np.ndarray) -> None:
        chunks = range(start // CHUNK_FRAMES, -(-stop // CHUNK_FRAMES))
        first, size = (int(arrays["chunk_bytes"][a:b].sum())
                       for a, b in ((0, chunks.start), (chunks.start, chunks.stop)))
        data = self._shard(info.shard).read_bytes(info.offset + first, size)
        for chunk, frames in decode(data, arrays, chunks, info, self.frame_shape).items():
            at = chunk * CHUNK_FRAMES
            low, high = max(start, at), min(stop, at + CHUNK_FRAMES)
            out[low - start:high - start] = frames[low - at:high - at]


def verify_shard(path: Path, infos: list[EpisodeInfo]) -> list[Damage]:
    """The episodes of a shard that do not match their checksums; one Damage without episode if it is lost."""
    try:
        shard = Shard(path)
    except DataError as error:
        return [Damage(int(path.name.split(".")[0]), None, str(error))]
    damages = []
    for info in infos:
        try:
            shard.pack(info)
        except DataError as error:
            damages.append(Damage(info.shard, info.id, str(error)))
    return damages
