"""Writing a data set, episode by episode; a folder that was interrupted is continued."""

import contextlib
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

from wakedream import runs
from wakedream.data.actions import ActionSpec, in_words
from wakedream.data.episode import Episode
from wakedream.data.manifest import (
    FILE,
    SHARDS,
    EpisodeInfo,
    Header,
    Manifest,
    ShardInfo,
    is_held_out,
    read_manifest,
    repair,
    shard_path,
    write_manifest,
)
from wakedream.data.shard import Packed, Shard, describe, pack, write_shard
from wakedream.errors import DataError, RunError


class StoreWriter:
    """Writes episodes to a folder; goes on where an interrupted writer, or a finished data set, ended.

    `with StoreWriter(path, spec, frame_shape=(h, w, c)) as writer: writer.add(episode)`. Every `shard_frames`
    frames become a shard on disk, complete or absent; leaving the context, by an error too, keeps the rest as
    a smaller shard and writes the manifest. DataError when the folder holds something else.
    """

    def __init__(self, path: Path | str, spec: ActionSpec, *, frame_shape: tuple[int, int, int],
                 held_out: float | int = 0.1, info: dict[str, Any] | None = None, shard_frames: int = 4096):
        if not 0 <= held_out < 1:
            raise DataError(f"held_out is {held_out}, expected a fraction from 0 to below 1")
        self.path, self.shard_frames = Path(path), shard_frames
        self.header = Header(frame_shape, spec, float(held_out), info or {})
        self.shards: list[ShardInfo] = []
        self.episodes: list[EpisodeInfo] = []
        self._dropped: tuple[str, ...] = ()
        self._waiting: list[Packed] = []
        self._next = self.frames = self._listed = 0
        self._holding = False
        self._lock = contextlib.ExitStack()
        _check_folder(self.path)
        self._lock.enter_context(runs.locked(self.path))
        try:
            self._resume()
        except BaseException:
            self._lock.close()
            raise

    @property
    def num_episodes(self) -> int:
        return len(self.episodes) + len(self._waiting)

    @property
    def added(self) -> list[EpisodeInfo]:
        """All episodes that are in, on disk or waiting; what a resumed command looks at to go on."""
        return self.episodes + [packed.info for packed in self._waiting]

    def add(self, episode: Episode) -> None:
        """Check, compress and keep a whole episode; DataError when it is not of this spec and shape."""
        episode.check(self.header.actions, self.header.frame_shape)
        self.add_packed(pack(episode))

    def add_packed(self, packed: Packed) -> None:
        """Keep an episode that was checked and compressed elsewhere."""
        split = "held_out" if is_held_out(self._next, self.header.held_out) else "train"
        self._waiting.append(replace(packed, info=replace(packed.info, id=self._next, split=split)))
        self._next += 1
        self.frames += packed.info.frames
        if not self._holding:
            self._write(whole_shards=True)

    @contextlib.contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        """Of the episodes added within, an error leaves none; until then they wait in memory, compressed."""
        before = len(self._waiting), self._next, self.frames
        self._holding = True
        try:
            yield
        except BaseException:
            waiting, self._next, self.frames = before
            del self._waiting[waiting:]
            raise
        finally:
            self._holding = False
        self._write(whole_shards=True)

    def flush(self) -> None:
        """Write what waits in memory to the disk."""
        self._write(whole_shards=False)

    def _write(self, whole_shards: bool) -> None:
        while self._waiting:
            ends = list(accumulate(packed.info.frames for packed in self._waiting))
            if whole_shards and ends[-1] < self.shard_frames:
                return
            count = min(bisect_left(ends, self.shard_frames) + 1, len(ends))
            number = max((shard.number for shard in self.shards), default=-1) + 1
            shard, episodes = write_shard(shard_path(self.path, number), self.header, self._waiting[:count])
            self.shards.append(shard)
            self.episodes += episodes
            del self._waiting[:count]

    def close(self) -> None:
        """Write the last shard and the manifest, free the folder. An empty data set leaves nothing behind, and one to
        which nothing was added stays byte for byte what it was."""
        try:
            self.flush()
            if len(self.shards) > self._listed:
                write_manifest(self.path,
                               Manifest.of(self.header, self.shards, self.episodes, self._dropped))
        finally:
            self._lock.close()
        if not self.episodes:
            _remove_empty(self.path)

    def __enter__(self) -> "StoreWriter":
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:  # the error that ended the work is the one to be told, also when the disk is full
            with contextlib.suppress(RunError):
                self.close()

    def _resume(self) -> None:
        if (self.path / FILE).exists():
            manifest = read_manifest(self.path)
            self._adopt(manifest.header, list(manifest.shards), list(manifest.episodes))
            self._dropped, self._listed = manifest.dropped, len(manifest.shards)
        known = {shard.number for shard in self.shards}
        for path in sorted((self.path / SHARDS).glob("[0-9]*.safetensors")):
            if int(path.name.split(".")[0]) not in known:
                try:
                    shard = Shard(path)
                    for info in shard.episodes:
                        shard.pack(info)
                except DataError as error:
                    raise DataError(f"{error}; {repair(self.path)}") from error
                self._adopt(shard.header, [describe(path)], shard.episodes)
        for shard_info in self.shards:
            if not shard_path(self.path, shard_info.number).exists():
                raise DataError(f"the shard {shard_path(self.path, shard_info.number)} is missing; "
                                f"{repair(self.path)}")

    def _adopt(self, there: Header, shards: list[ShardInfo], episodes: list[EpisodeInfo]) -> None:
        mine = self.header
        for name, words in (("frame_shape", _pictures), ("actions", in_words), ("held_out", str)):
            was, now = (getattr(header, name) for header in (there, mine))
            if was != now:
                raise DataError(f"the data set {self.path} has {name} {words(was)}, this command {words(now)}: use the "
                                "same options, or choose another --out")
        self.header = Header(mine.frame_shape, mine.actions, mine.held_out, {**mine.info, **there.info})
        self.shards += shards
        self.episodes += episodes
        self.frames += sum(info.frames for info in episodes)
        self._next = max([self._next, *(info.id + 1 for info in episodes)])


def begun(path: Path) -> Header | None:
    """What is common to a data set that was begun at `path` before; None if there is none."""
    for shard in sorted((path / SHARDS).glob("[0-9]*.safetensors")):
        with contextlib.suppress(DataError):  # a damaged one is told by the writer
            return Shard(shard).header
    return None


def origin(info: Mapping[str, Any]) -> str:
    """Where a data set comes from, in words, from its header's info."""
    if "env" in info:
        known = ", ".join(f"{name} {info[name]}" for name in ("policy", "seed") if name in info)
        return f"recorded from {info['env']}" + (f" ({known})" if known else "")
    made = next((info[name] for name in ("ingest", "readers") if name in info), None)
    if isinstance(made, dict):
        kind = "videos" if "ingest" in info else "data of others"
        return f"ingested from {kind} with {options_in_words(made)}"
    return "ingested" if info.get("source") == "ingest" else "written from Python"


def options_in_words(options: Mapping[str, Any]) -> str:
    """As they are given: --size 64 --fit crop; what is None was not given."""
    given = {name: value for name, value in options.items() if value is not None}
    return " ".join(f"--{name.replace('_', '-')} {value}" for name, value in given.items()) or "no options"


def _check_folder(path: Path) -> None:
    if path.is_dir() and not (path / FILE).exists():
        foreign = [entry.name for entry in path.iterdir()
                   if entry.name != SHARDS and not entry.name.startswith(".")]
        if foreign:
            raise DataError(f"the folder {path} is not empty and no data set (it holds {min(foreign)}): "
                            "choose another --out")


def _pictures(shape: tuple[int, int, int]) -> str:
    return f"{shape} (pictures of height, width, channels)"


def _remove_empty(path: Path) -> None:
    if path.is_dir() and all(entry.name == ".lock" for entry in path.iterdir()):
        runs.remove(path)
