"""Dropping what is damaged in a data set, and nothing else."""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from wakedream import runs
from wakedream.data.manifest import (
    FILE,
    SHARDS,
    EpisodeInfo,
    Header,
    Manifest,
    ShardInfo,
    read_manifest,
    repair,
    shard_path,
    write_manifest,
)
from wakedream.data.shard import Packed, Shard, describe, write_shard
from wakedream.errors import DataError


def repair_data(folder: Path) -> list[str]:
    """Rewrite what is damaged without the damaged episodes; what was dropped or mended, in words.

    Also makes the manifest of a data set that was interrupted or has lost its own. DataError, and nothing
    changed, when no episode is left; UnreadableError, and nothing changed, when a shard is there but cannot be
    read. One shard is in memory at a time.
    """
    _manifest(folder)  # before anything is touched: what is no data set stays as it is
    with runs.locked(folder):
        manifest, said = _manifest(folder)
        header = manifest.header if manifest else None
        shards: list[ShardInfo] = []
        episodes: list[EpisodeInfo] = []
        lost = []
        for path, _ in _shards(folder, manifest):  # before any is written anew
            with suppress(FileNotFoundError):
                runs.check_readable(path)
        for path, listed in _shards(folder, manifest):
            found, packed, notes = _intact(path, listed)
            said += notes
            header = header or found
            if header is None or not packed:
                lost.append(path)
                continue
            known = {shard.sha256 for shard in manifest.shards} if manifest and listed else None
            about, infos = describe(path), [each.info for each in packed]
            if notes or (known and about.sha256 not in known):
                about, infos = write_shard(path, header, packed)
                said += [] if notes else [f"rewrote {path}: its description was damaged, no episode was"]
            shards.append(about)
            episodes += infos
        if header is None or not episodes:
            raise DataError(f"no episode of {folder} is intact, nothing was changed: make the data set again")
        before = manifest.dropped if manifest else ()
        write_manifest(folder, Manifest.of(header, shards, episodes, (*before, *said)))
        for path in lost:
            runs.remove(path)
    return said


def _manifest(folder: Path) -> tuple[Manifest | None, list[str]]:
    try:
        return read_manifest(folder), []
    except DataError as error:
        if repair(folder) not in str(error):  # no data set, or of a newer format
            raise
        return None, [f"no usable {FILE}: made again from the shards"]


def _shards(folder: Path, manifest: Manifest | None) -> list[tuple[Path, list[EpisodeInfo] | None]]:
    """Every shard that is there or should be, with the episodes that the manifest lists in it."""
    listed: dict[Path, list[EpisodeInfo] | None] = dict.fromkeys((folder / SHARDS).glob("[0-9]*.safetensors"))
    for info in manifest.episodes if manifest else ():
        path = shard_path(folder, info.shard)
        listed[path] = [*(listed.get(path) or []), info]
    return sorted(listed.items())


def _intact(path: Path, listed: list[EpisodeInfo] | None) -> tuple[Header | None, list[Packed], list[str]]:
    """The episodes of a shard whose checksums hold, and what to say of the others."""
    try:
        shard = Shard(path)
    except DataError as error:
        lost = f"the episodes {[info.id for info in listed]}" if listed else "all its episodes"
        return None, [], [f"dropped {lost}: {error}"]
    own = {info.id: info for info in shard.episodes}
    packed, said = [], []
    for info in shard.episodes if listed is None else listed:
        there = own.get(info.id, info)  # after an interrupted repair the shard knows best where things lie
        same = (there.frames_sha256, there.arrays_sha256) == (info.frames_sha256, info.arrays_sha256)
        place = replace(info, start=there.start, chunk=there.chunk, offset=there.offset) if same else info
        try:
            packed.append(shard.pack(place))
        except DataError as error:
            said.append(f"dropped {error} ({info.frames} frames)")
    return shard.header, packed, said
