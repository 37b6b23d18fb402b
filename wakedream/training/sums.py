"""Whether the files of a checkpoint and of a weights folder are what was written. Imports no torch."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from wakedream import runs
from wakedream.errors import CheckpointError, RunError

FORMAT = 2  # of checkpoints; 1, never released: without "shards" and frames


def read_json(path: Path) -> dict[str, Any]:
    """A checkpoint's state.json, verified."""
    try:
        values = json.loads((path / "state.json").read_text(encoding="utf-8"))
        checksum = values.pop("checksum")
    except (OSError, ValueError, AttributeError, KeyError) as error:
        raise CheckpointError(f"the checkpoint {path} is damaged: state.json ({error})") from error
    if checksum != checksum_of(values):
        raise CheckpointError(f"the checkpoint {path} is damaged: state.json is not what was written")
    if values["format"] != FORMAT:
        raise RunError(f"the checkpoint {path} has format {values['format']}, this version reads format {FORMAT}: "
                       "go on with the version of wakedream that wrote it, or train again into another --out. "
                       f"{path / 'model'} can be used all the same")
    return values


def checksum_of(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def damage(path: Path, files: dict[str, str], names: Iterable[str] | None = None) -> dict[str, str]:
    """What is wrong with which of a checkpoint's files, or of those named; `files`: their checksums."""
    found: dict[str, str] = {}
    for name in sorted(files) if names is None else names:
        if not (path / name).exists():
            found[name] = "missing"
        elif runs.sha256(path / name) != files[name]:
            found[name] = "not what was written (checksum)"
    return found


def listed(found: dict[str, str]) -> str:
    return ", ".join(f"{name} is {what}" for name, what in sorted(found.items()))


def verify_checkpoint(path: Path) -> str:
    """How many files are whole; CheckpointError or RunError when not all are."""
    files = read_json(path)["files"]
    if found := damage(path, files):
        raise CheckpointError(f"the checkpoint {path} is damaged: {listed(found)}")
    return f"{len(files) + 1} files whole"


def verify_weights(path: Path) -> str:
    """CheckpointError when the tensors are not those that config.json was written for."""
    try:
        expected = json.loads((path / runs.CONFIG).read_text(encoding="utf-8")).get("sha256")
        found = runs.sha256(path / runs.TENSORS)
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(f"the weights {path} are damaged or missing ({error})") from error
    if expected is None:
        return "not known, written before weights had any"
    if found != expected:
        raise CheckpointError(f"the weights {path / runs.TENSORS} are damaged: not what was written (checksum)")
    return "whole"
