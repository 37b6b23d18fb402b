"""What a data set holds: `manifest.json`, written last, so that a folder with one is complete."""

import hashlib
import json
import math
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from wakedream import runs
from wakedream.config import added, shown, to_dict
from wakedream.data.actions import ActionSpec
from wakedream.errors import DataError

FORMAT = "wakedream-data"
VERSIONS = (1, 2)  # that are read; the last is written
FILE = "manifest.json"
SHARDS = "shards"
MAKERS = "`wakedream record` or `wakedream ingest`"


@dataclass(frozen=True)
class EpisodeInfo:
    """Where an episode lies and what it is.

    start, chunk, offset    first frame, first chunk and first byte of its frames, counted within the shard
    split                   "train" or "held_out"
    stored_bytes            of its compressed frames
    events, has_rewards     the names of its events; whether any reward is known. Episodes of format 1 have neither
                            events nor a column that tells a known reward: has_rewards is None
    """

    id: int
    shard: int
    start: int
    chunk: int
    offset: int
    frames: int
    split: str
    terminated: bool
    truncated: bool
    has_actions: bool
    total_reward: float
    extras: tuple[str, ...]
    stored_bytes: int
    frames_sha256: str
    arrays_sha256: str
    info: dict[str, Any] = field(default_factory=dict)
    events: tuple[str, ...] = added((), was=())
    has_rewards: bool | None = added(None, was=None)


@dataclass(frozen=True)
class ShardInfo:
    number: int
    frames: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Header:
    """What all shards of a data set share; each carries it, so a folder without manifest can be mended."""

    frame_shape: tuple[int, int, int]
    actions: ActionSpec
    held_out: float
    info: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Manifest:
    header: Header
    raw_bytes: int
    stored_bytes: int
    shards: tuple[ShardInfo, ...]
    episodes: tuple[EpisodeInfo, ...]
    dropped: tuple[str, ...] = ()

    @classmethod
    def of(cls, header: Header, shards: list[ShardInfo], episodes: list[EpisodeInfo],
           dropped: tuple[str, ...] = ()) -> "Manifest":
        frame_bytes = math.prod(header.frame_shape)
        return cls(header, frame_bytes * sum(episode.frames for episode in episodes),
                   sum(shard.bytes for shard in shards), tuple(shards), tuple(episodes), dropped)

    @property
    def fingerprint(self) -> str:
        """sha256 over what decides the content: shape, actions, and each episode's checksums and split."""
        content = [self.header.frame_shape, shown(self.header.actions),
                   [(e.id, e.frames, e.split, e.terminated, e.truncated, e.frames_sha256, e.arrays_sha256)
                    for e in self.episodes]]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def is_held_out(episode: int, fraction: float | int) -> bool:
    """Whether this episode is kept from training: one, picked by hash, of every 1 / fraction episodes.

    Depends on the episode's number alone, so it never changes while a data set grows, and follows no rhythm
    that parallel recorders may have. Of the first block it is episode 1: two episodes have one held out.
    """
    if fraction <= 0:
        return False
    share = Fraction(str(fraction))
    block = math.floor(episode * share)
    first, end = math.ceil(block / share), math.ceil((block + 1) / share)
    pick = int.from_bytes(hashlib.sha256(str(block).encode()).digest()[:8], "big")
    return episode == (first + pick % (end - first) if block else 1)


def shard_path(folder: Path, number: int) -> Path:
    return folder / SHARDS / f"{number:06d}.safetensors"


def write_manifest(folder: Path, manifest: Manifest) -> None:
    runs.write_json(folder / FILE, {"format": FORMAT, "version": VERSIONS[-1], **to_dict(manifest)})


def read_manifest(folder: Path) -> Manifest:
    """DataError when `folder` is not a data set, was interrupted, is being made, is damaged, or of a newer format."""
    try:
        return runs.read_versioned(folder / FILE, Manifest, format=FORMAT, versions=VERSIONS, made_by=MAKERS,
                                   remedy=repair(folder), again="make the data set again")
    except (FileNotFoundError, NotADirectoryError):
        raise _not_a_data_set(folder) from None


def check_there(folder: Path) -> None:
    """DataError when there is no data set, without reading it."""
    if not (folder / FILE).exists():
        raise _not_a_data_set(folder)


def repair(folder: Path) -> str:
    return f"run `wakedream inspect {folder} --repair`"


def _not_a_data_set(folder: Path) -> DataError:
    if not folder.exists():
        return DataError(f"there is no data set at {folder}: make one with {MAKERS}")
    if owner := runs.holder(folder):
        return DataError(f"the data set {folder} is being recorded or ingested (process {owner}): wait until that is "
                         "done, or stop it, which keeps what there is")
    if any((folder / SHARDS).glob("*.safetensors")):
        return DataError(f"the data set {folder} was interrupted before its manifest was written: run the "
                         f"same command again to go on, or keep what is there: {repair(folder)}")
    return DataError(f"{folder} is not a data set, it has no {FILE}: expected one written by {MAKERS}")
