"""`wakedream ingest`: videos, or data of others through their readers; each episode whole or not at all."""

import hashlib
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from wakedream.data import ingest as videos
from wakedream.data.action_file import difference
from wakedream.data.actions import ActionComponent, ActionSpec
from wakedream.data.columns import Columns
from wakedream.data.config import IngestConfig, parse_size
from wakedream.data.episode import Episode
from wakedream.data.manifest import EpisodeInfo
from wakedream.data.readers.pictures import fitted
from wakedream.data.readers.registry import open_source, split
from wakedream.data.readers.source import Play, Source
from wakedream.data.writer import StoreWriter
from wakedream.errors import ConfigError, DataError
from wakedream.progress import ProgressBar

Written = dict[tuple[str, str], list[EpisodeInfo]]


def ingest(config: IngestConfig) -> None:
    """Bad videos or episodes are left out, named, and a DataError at the end."""
    places = [split(text) for text in config.videos]
    if not any(places):
        if config.camera is not None:
            raise ConfigError(f"--camera {config.camera}: a video has but one; expected lerobot:, minari:, hdf5: "
                              "or npz:")
        return videos.ingest(config)
    if None in places:
        raise ConfigError(f"got {' '.join(config.videos)}: expected videos or data of others, not both in one call")
    if config.keep_truncated:
        raise ConfigError("--keep-truncated: what is cut short no longer fits its actions; expected videos, or no such "
                          "option")
    if config.fps is not None:
        raise ConfigError(f"--fps {config.fps:g}: frames would be left out or repeated, and the actions between them "
                          "no longer fit: leave --fps away")
    sources = {text: open_source(*place, config.camera)
               for text, place in zip(config.videos, places, strict=True) if place is not None}
    _ingest(config, sources)


def _ingest(config: IngestConfig, sources: dict[str, Source]) -> None:
    out = Path(config.out)
    options = {"size": config.size, "fit": config.fit, "camera": config.camera, "episode_frames": config.episode_frames}
    spec = _spec(out, videos.goes_on(out, "readers", options), sources)
    bad: list[str] = []
    total = sum(len(source.episodes) for source in sources.values())
    with videos.writing(config, spec, "readers", options) as writer:
        before: Written = {}
        for info in writer.added:
            before.setdefault((info.info["source"], info.info["name"]), []).append(info)
        with ProgressBar("ingesting", float(total), "episodes") as bar:
            for text, name in ((text, name) for text, source in sources.items() for name in source.episodes):
                try:
                    _add(writer, config, sources[text], text, name, before.get((text, name), []))
                except DataError as error:
                    bad.append(f"{text}, {name}: {error}")
                bar.advance(1.0, frames=f"{writer.frames:,}", bad=len(bad))
        empty = writer.num_episodes == 0
    for remark in dict.fromkeys(f"{text}: {remark}" for text, source in sources.items() for remark in source.remarks):
        print(remark, file=sys.stderr)
    videos.report(out, total, bad, config.skip_bad and not empty, "source episodes")


def _spec(out: Path, before: ActionSpec | None, sources: dict[str, Source]) -> ActionSpec:
    """`before`, that of the data set if it was begun, else what spans the actions of all sources."""
    specs = {**({f"the data set {out}": before} if before is not None else {}),
             **{text: source.spec for text, source in sources.items()}}
    guessed = all(source.guessed for source in sources.values())
    (first, spec), *others = specs.items()
    for text, other in others:
        if found := difference(_kinds(other, guessed), _kinds(spec, guessed)):
            raise DataError(f"{text} has {found} as in {first}: make them alike, or choose another --out")
    return before if before is not None else ActionSpec(tuple(
        _spanning(same) for same in zip(*(spec.components for spec in specs.values()), strict=True)))


def _kinds(spec: ActionSpec, guessed: bool) -> ActionSpec:
    """What has to be alike. Bounds of numbers need not: they only say what a model is to tell apart. Nor need choices
    that are guessed; one that the data set does not have is told with its episode."""
    return ActionSpec(tuple(
        replace(c, low=(), high=()) if c.kind == "continuous" else
        replace(c, low=(), size=1) if c.kind == "categorical" and guessed else c for c in spec.components))


def _spanning(same: tuple[ActionComponent, ...]) -> ActionComponent:
    """One with the bounds and choices of all."""
    if same[0].kind == "categorical":
        low, end = min(c.first for c in same), max(c.first + c.size for c in same)
        return replace(same[0], low=(float(low),) if low else (), size=end - low)
    if same[0].kind == "continuous" and all(c.low for c in same):
        return replace(same[0], low=tuple(map(min, zip(*(c.low for c in same), strict=True))),
                       high=tuple(map(max, zip(*(c.high for c in same), strict=True))))
    return same[0]


def _add(writer: StoreWriter, config: IngestConfig, source: Source, text: str, name: str,
         written: list[EpisodeInfo]) -> None:
    """`written`: its pieces that are in already, from before an interruption or all of them."""
    play = source.read(name, writer.header.actions)
    about = {"source": text, "name": name, "columns": _digest(play.columns), **play.info}
    if any(info.info.get(what) != about.get(what) for info in written for what in ("columns", "bytes")):
        raise DataError("it has changed since it was ingested: choose another --out")
    if any(info.info["last"] for info in written):
        return
    if len(play) == 0:
        raise DataError("it has no frames")
    size, parts = parse_size(config.size), {info.info["first_frame"] for info in written}
    frames = (fitted(picture, size, config.fit) for picture in play.frames())
    with writer.all_or_nothing():
        for first, video, last in videos.cut(frames, config.video_frames if source.endless else config.episode_frames):
            end = first + len(video)
            if end > len(play) or (last and end < len(play)):
                raise DataError(f"it has {end} frames{'' if last else ' or more'}, and entries for {len(play)}: "
                                "expected one entry for each frame")
            if first not in parts:
                writer.add(_piece(play, video, first, last, {**about, "first_frame": first, "last": last}))


def _piece(play: Play, video: np.ndarray, first: int, last: bool, info: dict[str, Any]) -> Episode:
    """Frames `first` and on; what led into the first of them and came with it is left out."""
    columns = {name: values[first:first + len(video)].copy() for name, values in play.columns.items()}
    for name, values in columns.items():
        if name != "task" and not name.startswith("extras/"):
            values[0] = 0
    terminated = play.terminated and last
    return Episode.of_columns(video, columns, terminated, not terminated, info)


def _digest(columns: Columns) -> str:
    digest = hashlib.sha256()
    for name in sorted(columns):
        digest.update(name.encode() + columns[name].tobytes())
    return digest.hexdigest()[:16]
