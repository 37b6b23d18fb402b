"""RUN/config.json: what a run is, so that the same command resumes it and another one is refused."""

import json
import platform
from pathlib import Path
from typing import Any

import torch

from wakedream import __version__, runs
from wakedream.errors import ConfigError, RunError
from wakedream.training.config import MAY_CHANGE

Source = dict[str, str]  # path and fingerprint


def claim(folder: Path, stage: str, preset: str, config: dict[str, Any], data: Source, **others: Source) -> None:
    """Write config.json, or find that the run in `folder` was started with the same config and sources.

    config: plain values of the stage's config; data: the data set; others: what else the run is made from, by name.
    ConfigError names the fields that differ; RunError when the folder holds something else.
    """
    file = folder / "config.json"
    sources = {"data": data, **others}
    identity = {"stage": stage, "preset": preset, "config": config, **sources}
    if file.exists():
        _compare(folder, read(folder), identity, list(sources))
    elif any(not path.name.startswith(".") for path in folder.iterdir()):
        raise RunError(f"{folder} is not empty and holds no run: choose another --out")
    versions = {"wakedream": __version__, "torch": str(torch.__version__),
                "python": platform.python_version()}
    runs.write_json(file, identity | {"versions": versions})


def read(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{folder}/config.json is missing or damaged: choose another --out") from error


def _compare(folder: Path, before: dict[str, Any], now: dict[str, Any], sources: list[str]) -> None:
    if before.get("stage") != now["stage"]:
        raise ConfigError(f"{folder} holds a run of stage '{before.get('stage')}', not '{now['stage']}': "
                          "choose another --out")
    old, new = flatten(before["config"]), flatten(now["config"])
    changed = [name for name in sorted(old.keys() | new.keys())
               if name not in MAY_CHANGE and old.get(name) != new.get(name)]
    if changed:
        listed = "; ".join(f"{name} was {old.get(name)}, now {new.get(name)}" for name in changed)
        raise ConfigError(f"the run in {folder} was started with other options: {listed}. "
                          "Use the options it was started with, or another --out")
    for name in sources:
        if before[name]["fingerprint"] != now[name]["fingerprint"]:
            what = {"data": "data set"}.get(name, name)
            was, now_is = (f"{x[name]['path']} ({x[name]['fingerprint'][:12]})" for x in (before, now))
            raise ConfigError(f"the run in {folder} was started on another {what}: {was}, now {now_is}. "
                              f"Use the same {what}, or another --out")


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"optim": {"lr": 1}} -> {"optim.lr": 1}"""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
