"""RUN/config.json: what a run is, so that the same command resumes it and another one is refused."""

import json
import platform
from pathlib import Path
from typing import Any

import torch

from wakedream import __version__, runs
from wakedream.errors import ConfigError, RunError
from wakedream.training.config import MAY_CHANGE


def claim(folder: Path, stage: str, preset: str, config: dict[str, Any], data: dict[str, str]) -> None:
    """Write config.json, or find that the run in `folder` was started with the same config and data.

    config: plain values of the stage's config; data: path and fingerprint of the data set.
    ConfigError names the fields that differ; RunError when the folder holds something else.
    """
    file = folder / "config.json"
    identity = {"stage": stage, "preset": preset, "config": config, "data": data}
    if file.exists():
        _compare(folder, read(folder), identity)
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


def _compare(folder: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
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
    if before["data"]["fingerprint"] != now["data"]["fingerprint"]:
        was, now_is = (f"{x['data']['path']} ({x['data']['fingerprint'][:12]})" for x in (before, now))
        raise ConfigError(f"the run in {folder} was started on another data set: {was}, now {now_is}. "
                          "Use the same data, or another --out")


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"optim": {"lr": 1}} -> {"optim.lr": 1}"""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
