"""`wakedream ingest`: video files, with actions beside them, to a data set; each video whole or not at all."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from wakedream.data.action_file import SUFFIX, VideoActions, actions_beside, difference, digest, read_actions
from wakedream.data.actions import ActionSpec
from wakedream.data.config import IngestConfig, parse_size
from wakedream.data.episode import Episode
from wakedream.data.film import frame_rate
from wakedream.data.images import IMAGES, images_in
from wakedream.data.manifest import FILE, EpisodeInfo, read_manifest
from wakedream.data.video import read_video
from wakedream.data.writer import StoreWriter, begun, options_in_words, origin
from wakedream.errors import DataError, Interrupted
from wakedream.progress import ProgressBar, counted

SUFFIXES = (".3g2", ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".gif", ".m2ts", ".m2v", ".m4v", ".mjpeg",
            ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".nut", ".ogv", ".qt", ".ts", ".vob", ".webm",
            ".wmv", ".y4m")


def ingest(config: IngestConfig) -> None:
    """Decode, resize, cut and store. Bad videos are left out, named, and a DataError at the end."""
    files, passed_over = find_videos(config.videos)
    _tell_passed_over(files, passed_over)
    options = {name: asdict(config)[name] for name in ("size", "fit", "fps")} | {"episode_frames": config.video_frames}
    out, bad = Path(config.out), {}
    spec = _spec(goes_on(out, "ingest", options), files)
    with writing(config, spec, "ingest", options) as writer:
        before: dict[str, list[EpisodeInfo]] = {}
        for info in writer.added:
            before.setdefault(str(Path(info.info["source"]).resolve()), []).append(info)
        with ProgressBar("ingesting", float(len(files)), "videos") as bar:
            for file in files:
                try:
                    _add_video(writer, file, config, before.get(source_of(file), []))
                except DataError as error:
                    bad[file] = str(error)
                bar.advance(1.0, frames=f"{writer.frames:,}", bad=len(bad))
        empty = writer.num_episodes == 0
    report(out, len(files), list(bad.values()), config.skip_bad and not empty)


def goes_on(out: Path, what: str, options: dict[str, Any]) -> ActionSpec | None:
    """The actions of the data set that the command goes on with; None if there is none. DataError, and nothing is
    touched, where it was made by another command or with other options, which it tells under the name `what`."""
    header = begun(out)
    if header is None:
        return None
    there = header.info.get(what)
    if not isinstance(there, dict):
        kind = {"ingest": "videos", "readers": "data of others"}[what]
        raise DataError(f"the data set {out} was {origin(header.info)}, which {kind} cannot go on with: choose another "
                        "--out")
    if there != options:
        names = [name for name in {**there, **options} if there.get(name) != options.get(name)]
        was, now = (" ".join(_option(name, values.get(name)) for name in names) for values in (there, options))
        raise DataError(f"the data set {out} was {origin(header.info)}; this command says {now}, not {was}: use the "
                        "same options, or choose another --out")
    return header.actions


def _option(name: str, value: Any) -> str:
    return f"no --{name.replace('_', '-')}" if value is None else options_in_words({name: value})


@contextlib.contextmanager
def writing(config: IngestConfig, spec: ActionSpec, what: str, options: dict[str, Any]) -> Iterator[StoreWriter]:
    """The data set that the command makes or goes on with; an interruption says what is kept."""
    out, info = Path(config.out), {"source": "ingest", what: options}
    try:
        with StoreWriter(out, spec, frame_shape=(*parse_size(config.size), 3), held_out=config.held_out,
                         info=info) as writer:
            yield writer
    except KeyboardInterrupt:
        kept = read_manifest(out).episodes if (out / FILE).exists() else ()
        told = f"{counted(len(kept), 'whole episodes')}, {counted(sum(info.frames for info in kept), 'frames')}"
        raise Interrupted(signal.SIGINT, f"interrupted: {out} has {told}; the same command goes on from "
                          "there") from None


def source_of(file: Path) -> str:
    """The name that a file is known by, whatever it is called by: absolute, without links. Bytes that are no UTF-8 are
    spelled out."""
    return os.fsencode(file.resolve()).decode(errors="backslashreplace")


def find_videos(paths: tuple[str, ...]) -> tuple[list[Path], list[Path]]:
    """The files to read and folders of images, in order within each folder, and the files that are passed over.

    Links are followed. A folder of two images or more and no video is a video itself. DataError when a path does not
    exist or no video is found. Hidden files are ignored.
    """
    files: list[Path] = []
    passed_over: list[Path] = []
    for path in map(Path, paths):
        if not path.exists():
            raise DataError(f"{path} does not exist: expected a video or a folder of videos")
        if not path.is_dir():
            (passed_over if path.name.endswith(SUFFIX) else files).append(path)
            continue
        for folder in _folders(path):
            inside = sorted(file for file in folder.iterdir() if not file.is_dir() and not file.name.startswith("."))
            videos = [file for file in inside if file.suffix.lower() in SUFFIXES and file.is_file()]
            images = [] if videos else images_in(folder)
            sequence = len(images) > 1
            files += [folder] if sequence else videos
            taken = set(images if sequence else videos)
            passed_over += [file for file in inside if file not in taken]
    if not files:
        raise DataError(f"no videos in {', '.join(paths)}: expected files ending in {' '.join(SUFFIXES)}, or "
                        f"folders of images ending in {' '.join(IMAGES)}")
    known: dict[str, Path] = {}
    for file in files:
        known.setdefault(source_of(file), file)
    return list(known.values()), passed_over


def _folders(top: Path) -> Iterator[Path]:
    """It and all beneath it that are not hidden, each once, in order."""
    known = set()
    for folder, names, _ in os.walk(top, followlinks=True):
        if (place := os.path.realpath(folder)) in known:  # a link back, or a second one
            names.clear()
            continue
        known.add(place)
        names[:] = sorted(name for name in names if not name.startswith("."))
        yield Path(folder)


def _tell_passed_over(files: list[Path], passed_over: list[Path]) -> None:
    beside = set(map(actions_beside, files))
    others = [path for path in passed_over if path not in beside]
    alone = [path for path in others if path.name.endswith(SUFFIX)]
    foreign = [path for path in others if path not in alone]
    if alone:
        print(f"{len(alone)} action files passed over, no video of that name is beside them: {_some(alone)}",
              file=sys.stderr)
    if foreign:
        print(f"{len(foreign)} files passed over, no videos by their names, or links to nothing: {_some(foreign)}",
              file=sys.stderr)


def _spec(before: ActionSpec | None, files: list[Path]) -> ActionSpec:
    """`before`, that of the data set where it was begun; else of the first action file that is right."""
    if before is not None:
        return before
    for path in map(actions_beside, files):
        with contextlib.suppress(DataError):  # told when its video's turn comes
            if path.exists():
                return read_actions(path).spec
    return ActionSpec()


def _add_video(writer: StoreWriter, file: Path, config: IngestConfig, written: list[EpisodeInfo]) -> None:
    """`written`: its episodes that are in already, from before an interruption or all of them."""
    about: dict[str, Any] = {"source": source_of(file), "bytes": _bytes(file)}
    if (beside := digest(actions_beside(file))) is not None:
        about["actions"] = beside
    for what, path in (("bytes", file), ("actions", actions_beside(file))):
        if any(info.info.get(what) != about.get(what) for info in written):
            raise DataError(f"{path} has changed since {file} was ingested: choose another --out")
    if any(info.info["last"] for info in written):
        return
    actions = _actions(writer, file, config) if beside else None
    fps = config.fps if actions is None or file.is_dir() else None  # a folder of images has no times, and says so
    frames = read_video(file, parse_size(config.size), config.fit, fps, config.keep_truncated)
    parts = {info.info["first_frame"] for info in written}
    with writer.all_or_nothing():
        for first, video, last in cut(frames, config.video_frames):
            if actions is not None:
                _check_length(file, actions, first + len(video), last)
            if first in parts:
                continue
            info = {**about, "first_frame": first, "last": last}
            writer.add(Episode.of_video(video, writer.header.actions, **info) if actions is None
                       else actions.episode(video, first, last, info))


def _bytes(file: Path) -> int:
    try:
        return sum(part.stat().st_size for part in (images_in(file) if file.is_dir() else [file]))
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror})") from error


def _actions(writer: StoreWriter, file: Path, config: IngestConfig) -> VideoActions:
    """The actions beside a video; DataError when they are not the data set's or cannot be kept at --fps."""
    path = actions_beside(file)
    actions = read_actions(path)
    if found := difference(actions.spec, writer.header.actions):
        raise DataError(f"{path} has {found} as in the rest of the data set {writer.path}: make them alike, or choose "
                        "another --out")
    rate = frame_rate(file) if config.fps and file.is_file() else None
    if config.fps and rate and abs(config.fps / rate - 1) > 0.01:
        raise DataError(f"{file} has {rate:g} frames/s and actions that led into each of them; at --fps {config.fps:g} "
                        "frames are left out or repeated, and the actions would no longer fit: leave --fps away, or "
                        f"convert the video and {path.name} before")
    return actions


def _check_length(file: Path, actions: VideoActions, frames: int, last: bool) -> None:
    """`frames` is how many there are so far, or in all if `last`."""
    if frames > len(actions) or (last and frames < len(actions)):
        raise DataError(f"{actions_beside(file)} has {len(actions)} entries, {file} has {frames} frames"
                        f"{'' if last else ' or more'}: expected one entry for each frame, frame 0 included")


def cut(frames: Iterator[np.ndarray], length: int | None) -> Iterator[tuple[int, np.ndarray, bool]]:
    """(first frame, frames, whether it is the last) for each run of at most `length` frames, or all in one."""
    first = 0
    part: list[np.ndarray] = []
    for frame in frames:
        if len(part) == length:
            yield first, np.stack(part), False
            first, part = first + length, []
        part.append(frame)
    yield first, np.stack(part), True


def report(out: Path, total: int, bad: list[str], accept: bool, what: str = "videos") -> None:
    """Print what is there; DataError when some were bad, unless that is accepted."""
    if len(bad) < total:
        made = read_manifest(out)
        frames = sum(info.frames for info in made.episodes)
        labelled = sum(info.has_actions for info in made.episodes)
        known = f", {counted(labelled, 'episodes')} with actions" if labelled else ""
        print(f"{out}: {counted(total - len(bad), what)}, {counted(len(made.episodes), 'episodes')}, "
              f"{counted(frames, 'frames')}, "
              f"{made.stored_bytes / frames:,.0f} bytes per frame, "
              f"{made.stored_bytes / made.raw_bytes:.0%} of raw"
              f"{known}")
    if not bad:
        return
    names = "\n  ".join(bad)
    message = f"{len(bad)} of {total} {what} could not be read and are left out:\n  {names}"
    if accept:
        print(message, file=sys.stderr)
        return
    kept = f"The others are in {out}, complete. " if len(bad) < total else "Nothing was written. "
    raise DataError(f"{message}\n{kept}Mend or remove them and run the same command again, or accept this "
                    "with --skip-bad")


def _some(paths: list[Path]) -> str:
    return ", ".join(path.name for path in paths[:5]) + (", ..." if len(paths) > 5 else "")
