"""One shard: a safetensors file with some tens of episodes.

    frames          uint8, the compressed chunks of all episodes, one after the other
    chunk_bytes     int64 per chunk; chunk_filters uint8 per chunk; an episode starts a chunk of its own
    has_action, rewards, has_reward, task,
    actions/NAME, events/NAME, extras/NAME     per frame, the episodes one after the other (data.columns)
    metadata        JSON: the data set's header and this shard's episodes

Shards of format 1 have neither has_reward nor task nor events; a data set may have shards of both.
"""

import functools
import hashlib
import json
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from wakedream import runs
from wakedream.config import from_dict, to_dict
from wakedream.data.codec import CHUNK_FRAMES, decode_chunk, encode_chunk
from wakedream.data.columns import SEPARATOR, Columns, unknown
from wakedream.data.episode import Episode
from wakedream.data.manifest import EpisodeInfo, Header, ShardInfo
from wakedream.errors import ConfigError, DataError

Arrays = dict[str, np.ndarray]
PER_CHUNK = ("chunk_bytes", "chunk_filters")
SINCE_2 = ("has_reward", "task")  # columns that no episode of format 1 has


@dataclass(frozen=True)
class Packed:
    """An episode as it lies in a shard. `arrays`: per chunk and per frame, in the shard's names.

    Until it has its place among others, its info's id, split and places mean nothing.
    """

    info: EpisodeInfo
    frames: bytes
    arrays: Arrays


@functools.cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(min(8, os.cpu_count() or 1), thread_name_prefix="pack")


def pack(episode: Episode) -> Packed:
    video = episode.video
    chunks = list(_threads().map(encode_chunk, (video[i:i + CHUNK_FRAMES]
                                                for i in range(0, len(video), CHUNK_FRAMES))))
    frames = b"".join(data for _, data in chunks)
    arrays: Arrays = {
        "chunk_bytes": np.array([len(data) for _, data in chunks], np.int64),
        "chunk_filters": np.array([kind for kind, _ in chunks], np.uint8),
        **episode.columns(),
    }
    info = EpisodeInfo(
        id=-1, shard=-1, start=-1, chunk=-1, offset=-1, frames=len(video), split="",
        terminated=bool(episode.terminated), truncated=bool(episode.truncated),
        has_actions=bool(episode.has_action.any()), total_reward=float(episode.rewards.sum()),
        extras=tuple(sorted(episode.extras)), stored_bytes=len(frames),
        frames_sha256=hashlib.sha256(frames).hexdigest(), arrays_sha256=_sha256(arrays), info=episode.info,
        events=tuple(sorted(episode.events)), has_rewards=bool(episode.has_reward.any()))
    return Packed(info, frames, arrays)


def unpack(packed: Packed, frame_shape: tuple[int, ...]) -> Episode:
    """What `pack` was given."""
    info, arrays = packed.info, packed.arrays
    chunks = decode(packed.frames, arrays, range(len(arrays["chunk_bytes"])), info, frame_shape)
    columns = {name: values for name, values in arrays.items() if name not in PER_CHUNK}
    video = np.concatenate(list(chunks.values()))
    return Episode.of_columns(video, columns, info.terminated, info.truncated, info.info)


def lacks(info: EpisodeInfo, column: str) -> bool:
    """Whether this is an event or an extra of other episodes."""
    group, _, name = column.partition(SEPARATOR)
    return (group == "events" and name not in info.events) or (group == "extras" and name not in info.extras)


def write_shard(path: Path, header: Header, episodes: list[Packed]) -> tuple[ShardInfo, list[EpisodeInfo]]:
    """Write the episodes to `path`, complete or not at all; the number of the shard is the file's name."""
    number = int(path.name.split(".")[0])
    placed, start, chunk, offset = [], 0, 0, 0
    for packed in episodes:
        placed.append(replace(packed.info, shard=number, start=start, chunk=chunk, offset=offset))
        start += packed.info.frames
        chunk += len(packed.arrays["chunk_bytes"])
        offset += len(packed.frames)
    tensors = {name: np.ascontiguousarray(values) for name, values in _join(episodes).items()}
    tensors["frames"] = np.frombuffer(b"".join(packed.frames for packed in episodes), np.uint8)
    about = {"header": to_dict(header), "episodes": [to_dict(info) for info in placed]}
    data = save(tensors, metadata={"wakedream": json.dumps(about)})
    with runs.atomic(path) as beside:
        beside.write_bytes(data)
    return ShardInfo(number, start, len(data), hashlib.sha256(data).hexdigest()), placed


def describe(path: Path) -> ShardInfo:
    """What the manifest says of a shard's file; DataError when it cannot be read."""
    frames = sum(info.frames for info in Shard(path).episodes)
    return ShardInfo(int(path.name.split(".")[0]), frames, path.stat().st_size, file_sha256(path))


def file_sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _join(episodes: list[Packed]) -> Arrays:
    """Concatenate by name; where an episode lacks an event or an extra, nothing is known of it."""
    joined = {}
    for name in dict.fromkeys(name for packed in episodes for name in packed.arrays):
        joined[name] = np.concatenate([packed.arrays[name] if name in packed.arrays
                                       else unknown(name, packed.info.frames)
                                       for packed in episodes])
    return joined


def _sha256(arrays: Arrays) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


class Shard:
    """A shard opened for reading: small arrays in memory, frames read on demand. Threads may share it."""

    def __init__(self, path: Path):
        """DataError when the file is missing or is not a whole shard, UnreadableError when it may not be read."""
        self.path = path
        try:
            runs.check_readable(path)
            with safe_open(path, framework="numpy") as file:
                about: dict[str, Any] = json.loads((file.metadata() or {})["wakedream"])
                names = [name for name in file.keys() if name != "frames"]  # noqa: SIM118 (no dict)
                self.arrays: Arrays = {name: file.get_tensor(name) for name in names}
            self.header = from_dict(Header, about["header"])
            self.episodes = [from_dict(EpisodeInfo, values) for values in about["episodes"]]
            self._first_byte = tensor_position(path, "frames")
        except FileNotFoundError:
            raise DataError(f"the shard {path} is missing") from None
        except (SafetensorError, KeyError, ValueError, TypeError, ConfigError) as error:
            raise DataError(f"the shard {path} is damaged ({type(error).__name__}: {error})") from error

    def episode_arrays(self, info: EpisodeInfo) -> Arrays:
        """This episode's part of the arrays; DataError when they are not those that were stored."""
        chunks = slice(info.chunk, info.chunk - (-info.frames // CHUNK_FRAMES))
        frames = slice(info.start, info.start + info.frames)
        later = SINCE_2 if info.has_rewards is None else ()
        arrays = {name: values[chunks if name in PER_CHUNK else frames] for name, values in self.arrays.items()
                  if name not in later and not lacks(info, name)}
        if _sha256(arrays) != info.arrays_sha256:
            raise DataError(f"episode {info.id} in {self.path}: damaged actions, rewards or chunk table")
        return arrays

    def columns(self, infos: Iterable[EpisodeInfo], names: Iterable[str]) -> Columns:
        """Those of these names that the shard can tell, over all its frames; `infos`: of its episodes."""
        infos, frames = list(infos), len(self.arrays["has_action"])
        columns = {name: self.arrays[name] if name in self.arrays else unknown(name, frames) for name in names}
        if any(info.has_rewards is None for info in infos):
            columns |= {name: columns[name].copy() for name in ("rewards", "has_reward")}
        for info in infos:
            part, last = slice(info.start, info.start + info.frames), info.start + info.frames - 1
            for name, ended in (("terminated", info.terminated), ("truncated", info.truncated)):
                columns[name][last:last + 1] = ended
            if info.has_rewards is None:
                rewards = columns["rewards"][part]
                columns["has_reward"][part] = known = _known_before(rewards, "env" in self.header.info)
                rewards[~known] = 0
        return columns

    def read_bytes(self, first: int, size: int) -> bytes:
        """Bytes of the compressed frames, counted from the start of the shard's first chunk."""
        try:
            with runs.readable(self.path), open(self.path, "rb") as file:
                file.seek(self._first_byte + first)
                data = file.read(size)
        except FileNotFoundError:
            raise DataError(f"the shard {self.path} is missing") from None
        if len(data) != size:
            raise DataError(f"the shard {self.path} is cut short")
        return data

    def pack(self, info: EpisodeInfo) -> Packed:
        """The whole episode as stored, checksums verified; DataError when damaged."""
        arrays = self.episode_arrays(info)
        frames = self.read_bytes(info.offset, info.stored_bytes)
        if hashlib.sha256(frames).hexdigest() != info.frames_sha256:
            raise DataError(f"episode {info.id} in {self.path}: damaged frames")
        return Packed(info, frames, arrays)


def decode(data: bytes, arrays: Arrays, chunks: Iterable[int], info: EpisodeInfo,
           frame_shape: tuple[int, ...]) -> dict[int, np.ndarray]:
    """Decode consecutive chunks of an episode from their bytes: chunk number -> uint8 (t h w c)."""
    decoded, first = {}, 0
    for chunk in chunks:
        size = int(arrays["chunk_bytes"][chunk])
        t = min(CHUNK_FRAMES, info.frames - chunk * CHUNK_FRAMES)
        decoded[chunk] = decode_chunk(int(arrays["chunk_filters"][chunk]), data[first:first + size],
                                      (t, *frame_shape))
        first += size
    return decoded


def _known_before(rewards: np.ndarray, recorded: bool) -> np.ndarray:
    """bool (t): which rewards of an episode of format 1, which kept unknown ones as 0, are known: those of recorded
    play, and of an episode that has any; never that of its first frame."""
    return (np.arange(len(rewards)) > 0) & (recorded or bool(rewards.any()))


def tensor_position(path: Path, tensor: str) -> int:
    """Where a tensor's first byte lies: after the length of the header (8 bytes) and the header (JSON)."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        return 8 + length + int(json.loads(file.read(length))[tensor]["data_offsets"][0])
