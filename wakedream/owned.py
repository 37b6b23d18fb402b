"""Whose a folder or a file is: what is written beside or into a data set, a run or weights may spoil them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wakedream.errors import ConfigError
from wakedream.runs import BEST, CONFIG, TENSORS

INNER = ("checkpoints", "model", "tokenizer", "dynamics", "agent", "latents", "shards")  # kept by who made the folder
PARTS = ("tokenizer", "dynamics", "agent")  # of a world; a tokenizer and one of the others


def owners(path: Path) -> Iterator[tuple[str, Path]]:
    """What `path` is or lies in, the nearest first: ("data set", folder), or latents, a checkpoint, a run, weights, or
    a world. Links are followed."""
    whole = path.resolve()
    for folder in (whole, *whole.parents):
        if kind := _kind(folder):
            yield kind, folder


def refuse_owned(path: Path, own: Path | None = None, option: str = "--out") -> None:
    """ConfigError where `path` is or lies in a data set, latents, a run, weights or a world.

    own: of these, the one that may hold it, though neither as itself nor in what it keeps inside
    """
    whole = path.resolve()
    for kind, folder in owners(path):
        its_own = own is not None and folder == own.resolve() and whole != folder
        if its_own and whole.relative_to(folder).parts[0] not in (*INNER, BEST):
            return
        raise ConfigError(f"{option} {path} lies in the {kind} {folder}, which it could spoil: choose another place")


def inside(folder: Path) -> tuple[str, Path] | None:
    """The kind and place of what keeps `folder` for itself: shards and latents of a data set, a run's checkpoints, a
    world's parts. None for what nobody keeps."""
    whole = folder.resolve()
    for kind, owner in owners(whole.parent):
        if kind in ("data set", "set of latents", "checkpoint") or whole.relative_to(owner).parts[0] in INNER:
            return kind, owner
    return None


def _kind(folder: Path) -> str | None:
    if (folder / "manifest.json").is_file() and (folder / "shards").is_dir():
        return "data set"
    if (folder / "latents.json").is_file():
        return "set of latents"
    if (folder / "state.json").is_file():
        return "checkpoint"
    values = _values(folder / CONFIG)
    if "stage" in values or isinstance(values.get("config"), dict):
        return "run"
    if _is_weights(folder):
        return "folder of weights"
    parts = [_is_weights(folder / name) for name in PARTS]
    return "world" if parts[0] and any(parts[1:]) else None


def _is_weights(folder: Path) -> bool:
    """Runs in folders called so make no world of the folder that they are in."""
    return (folder / TENSORS).is_file() and "kind" in _values(folder / CONFIG)


def _values(file: Path) -> dict[str, Any]:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}
