"""The store: a folder of shards and a manifest. Any window of any episode, read without decoding the rest."""

import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wakedream.data.actions import Actions, ActionSpec
from wakedream.data.codec import CHUNK_FRAMES
from wakedream.data.columns import KINDS, Columns, nested, unknown
from wakedream.data.episode import Episode
from wakedream.data.manifest import EpisodeInfo, Manifest, read_manifest, repair, shard_path
from wakedream.data.shard import PER_CHUNK, Arrays, Shard, decode, file_sha256, lacks
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
        self.events = tuple(sorted({name for info in self.episodes for name in info.events}))
        self._of_shard: dict[int, list[EpisodeInfo]] = {}
        for info in self.episodes:
            self._of_shard.setdefault(info.shard, []).append(info)
        self._shards: dict[int, Shard] = {}
        self._columns: dict[int, Columns] = {}  # by shard
        self._arrays: dict[int, Arrays] = {}
        self._mutex = threading.Lock()

    @classmethod
    def open(cls, path: Path | str) -> "Store":
        """DataError when `path` is not a data set, was interrupted, is damaged or of a newer format."""
        manifest = read_manifest(Path(path))
        if not manifest.episodes:
            raise DataError(f"the data set {path} has no episodes")
        return cls(Path(path), manifest)

    def __repr__(self) -> str:
        h, w, c = self.frame_shape
        actions = ", ".join(f"{one.name} ({one.kind}, {one.size})" for one in self.spec.components) or "none"
        return (f"Store({self.path}: {len(self.episodes):,} episodes, {self.frames():,} frames of {h}x{w}x{c}, actions "
                f"{actions})")

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

    @property
    def judging_split(self) -> str:
        """By whose episodes models are judged: "held_out", or "train" where no episode is held out, as with a single
        video. Who judges says which."""
        return "held_out" if self.split("held_out") else "train"

    def frames(self, split: str | None = None) -> int:
        return sum(info.frames for info in (self.split(split) if split else self.episodes))

    def read(self, episode_id: int, start: int = 0, stop: int | None = None) -> Episode:
        """Frames start..stop-1 of an episode; `terminated`, `truncated` only if its last frame is among them.

        Decodes only the chunks touched. DataError when damaged.
        """
        info = self._info(episode_id)
        video = self.video(episode_id, start, stop)
        found = self.columns(episode_id, start, stop)
        terminated, truncated = (bool(found.pop(name)[-1]) for name in ("terminated", "truncated"))
        columns = {name: column for name, column in found.items() if not lacks(info, name)}
        return Episode.of_columns(video, columns, terminated, truncated, info.info)

    def video(self, episode_id: int, start: int = 0, stop: int | None = None,
              out: np.ndarray | None = None) -> np.ndarray:
        """Frames start..stop-1 of an episode, uint8 (t h w c), in `out` if given. DataError when damaged."""
        info = self._info(episode_id)
        stop = info.frames if stop is None else stop
        if not 0 <= start < stop <= info.frames:
            raise DataError(f"episode {episode_id} has {info.frames} frames, asked for {start}..{stop - 1}")
        video = np.empty((stop - start, *self.frame_shape), np.uint8) if out is None else out
        try:
            self._read_video(info, self._verified(info), start, stop, video)
        except DataError as error:
            raise self._named(info, error) from error
        return video

    def actions(self, episode_id: int) -> tuple[Actions, np.ndarray]:
        """An episode's actions by component and has_action, bool (t): no frame is decoded. DataError when damaged."""
        columns = self.columns(episode_id)
        return nested(columns)["actions"], columns["has_action"]

    def columns(self, episode_id: int, start: int = 0, stop: int | None = None) -> Columns:
        """Frames start..stop-1 of an episode as a trajectory's columns, all that `empty_columns` has: no frame is
        decoded, nothing copied. DataError when damaged."""
        info = self._info(episode_id)
        try:
            self._verified(info)
        except DataError as error:
            raise self._named(info, error) from error
        part = slice(info.start + start, info.start + (info.frames if stop is None else stop))
        return {name: column[part] for name, column in self._shard_columns(info.shard).items()}

    def empty_columns(self, frames: int) -> Columns:
        """A trajectory's columns for so many frames of which nothing is known; extras are not a number."""
        several = [*(f"events/{name}" for name in self.events), *(f"extras/{name}" for name in self.extras)]
        names = [*(name for name in KINDS if name not in ("events", "extras")), *several]
        columns = {name: unknown(name, frames) for name in names}
        return columns | {f"actions/{name}": values for name, values in self.spec.placeholder(frames).items()}

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

    def _info(self, episode_id: int) -> EpisodeInfo:
        if episode_id not in self._by_id:
            first, last = min(self._by_id), max(self._by_id)
            gaps = "" if last - first + 1 == len(self._by_id) else ", not all of them there"
            raise DataError(f"{self.path} has no episode {episode_id!r}: its {len(self._by_id):,} episodes are "
                            f"numbered {first} to {last}{gaps}; `episodes` lists them, each with its id")
        return self._by_id[episode_id]

    def _named(self, info: EpisodeInfo, error: DataError) -> DataError:
        return DataError(f"episode {info.id} of {self.path}: {error}; {repair(self.path)}")

    def _shard(self, number: int) -> Shard:
        with self._mutex:
            if number not in self._shards:
                self._shards[number] = Shard(shard_path(self.path, number))
            return self._shards[number]

    def _shard_columns(self, number: int) -> Columns:
        if number not in self._columns:  # a race only makes them twice
            self._columns[number] = self._shard(number).columns(self._of_shard[number], self.empty_columns(0))
        return self._columns[number]

    def _verified(self, info: EpisodeInfo) -> Arrays:
        """An episode's table of chunks, once all its arrays have been compared with their checksum."""
        if info.id not in self._arrays:  # a race only does it twice
            arrays = self._shard(info.shard).episode_arrays(info)
            self._arrays[info.id] = {name: arrays[name] for name in PER_CHUNK}
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
