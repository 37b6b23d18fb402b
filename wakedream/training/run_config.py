"""RUN/config.json: what a run is, so that the same command resumes it and another one is refused."""

import contextlib
import json
import platform
import sys
from pathlib import Path
from typing import Any

import torch

from wakedream import __version__, runs
from wakedream.errors import ConfigError, RunError
from wakedream.training.config import MAY_CHANGE

Source = dict[str, str]  # path and fingerprint
Identity = dict[str, Any]
Changes = dict[str, tuple[Any, Any]]  # by name: before, now


def identity(stage: str, preset: str, config: dict[str, Any], **sources: Source) -> Identity:
    """What a run is. config: plain values of the stage's config; sources: what it is made from, by name."""
    return {"stage": stage, "preset": preset, "config": config, **sources}


def claim(folder: Path, own: Identity) -> None:
    """Write config.json, once `check_same` has found nothing against it; says which options are others now."""
    changed = check_same(folder, own)
    if changed:
        print(f"{folder} goes on with other options: {_listed(changed)}", file=sys.stderr)
    versions = {"wakedream": __version__, "torch": str(torch.__version__),
                "python": platform.python_version()}
    runs.write_json(folder / "config.json", own | {"versions": versions})


def check_same(folder: Path, own: Identity) -> Changes:
    """The options, of those that may change, in which the run in `folder` was another; none if there is no run.

    ConfigError names the others and the sources that differ; RunError when the folder holds something else.
    """
    if (folder / "config.json").exists():
        return _compare(folder, read(folder), own)
    with runs.disk_errors(folder), contextlib.suppress(FileNotFoundError):
        if any(not path.name.startswith(".") for path in folder.iterdir()):
            raise RunError(f"{folder} is not empty and holds no run: choose another --out")
    return {}


def read(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{folder}/config.json is missing or damaged: choose another --out") from error


def _compare(folder: Path, before: Identity, now: Identity) -> Changes:
    if before.get("stage") != now["stage"]:
        raise ConfigError(f"{folder} holds a run of stage '{before.get('stage')}', not '{now['stage']}': "
                          "choose another --out")
    old, new = flatten(before["config"]), flatten(now["config"])
    changes = {name: (old.get(name), new.get(name)) for name in sorted(old.keys() | new.keys())
               if old.get(name) != new.get(name)}
    if refused := {name: change for name, change in changes.items() if name not in MAY_CHANGE}:
        raise ConfigError(f"the run in {folder} was started with other options: {_listed(refused)}. "
                          "Use the options it was started with, or another --out")
    for name in (name for name in now if name not in ("stage", "preset", "config")):
        if before[name]["fingerprint"] != now[name]["fingerprint"]:
            what = {"data": "data set"}.get(name, name)
            was, now_is = (f"{x[name]['path']} ({x[name]['fingerprint'][:12]})" for x in (before, now))
            raise ConfigError(f"the run in {folder} was started on another {what}: {was}, now {now_is}. "
                              f"Use the same {what}, or another --out")
    return changes


def _listed(changes: Changes) -> str:
    return "; ".join(f"{name} was {was}, now {now}" for name, (was, now) in changes.items())


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"optim": {"lr": 1}} -> {"optim.lr": 1}"""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
