"""RUN/config.json: what a run is, so that the same command resumes it and another one is refused."""

import contextlib
import json
import platform
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from wakedream import __version__, runs
from wakedream.config import from_dict, to_dict
from wakedream.errors import ConfigError, RunError
from wakedream.training.config import MAY_CHANGE

Source = dict[str, str]  # path and fingerprint
Changes = dict[str, tuple[Any, Any]]  # by name: before, now
NAMES = {"data": "data set", "init": "set of starting weights"}


@dataclass(frozen=True)
class Identity:
    """What a run is.

    config      the stage's options, a dataclass: what a file says is read as it is, so that a field which came since
                means what was done before there was the field
    sources     what the run is made from, by name; compared by content
    judged_by   by what its best weights are chosen, if they are: settled when the run begins
    """

    stage: str
    preset: str
    config: Any
    sources: dict[str, Source] = field(default_factory=dict)
    judged_by: str | None = None

    def values(self) -> dict[str, Any]:
        judged = {} if self.judged_by is None else {"judged_by": self.judged_by}
        return {"stage": self.stage, "preset": self.preset, "config": to_dict(self.config), **self.sources, **judged}


def claim(folder: Path, own: Identity) -> None:
    """Write config.json, once `check_same` has found nothing against it; says which options are others now."""
    changed = check_same(folder, own)
    if changed:
        print(f"{folder} goes on with other options: {_listed(changed)}", file=sys.stderr)
    versions = {"wakedream": __version__, "torch": str(torch.__version__),
                "python": platform.python_version()}
    runs.write_json(folder / "config.json", own.values() | {"versions": versions})


def check_same(folder: Path, own: Identity) -> Changes:
    """The options, of those that may change, in which the run in `folder` was another; none if there is no run.

    ConfigError names the others and the sources that differ; RunError when the folder holds something else, or
    cannot be made. Nothing is written.
    """
    if is_run(folder):
        return _compare(folder, read(folder), own)
    with runs.disk_errors(folder), contextlib.suppress(FileNotFoundError):
        if any(not path.name.startswith(".") for path in folder.iterdir()):
            raise RunError(f"{folder} is not empty and holds no run: choose another --out")
    runs.check_place(folder)
    return {}


def is_run(folder: Path) -> bool:
    return (folder / "config.json").exists()


def read(folder: Path) -> dict[str, Any]:
    """RunError when the folder's config.json is damaged, or is not a run's."""
    try:
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{folder}/config.json is missing or damaged: choose another --out") from error
    if not isinstance(values, dict) or not isinstance(values.get("config"), dict):
        raise RunError(f"{folder} holds no run, its config.json says nothing of one: choose another --out")
    return values


def _compare(folder: Path, before: dict[str, Any], now: Identity) -> Changes:
    if before.get("stage") != now.stage:
        raise ConfigError(f"{folder} holds a run of stage '{before.get('stage')}', not '{now.stage}': "
                          "choose another --out")
    # through the door that fills in what the file lacks
    old, new = (flatten(to_dict(config)) for config in (from_dict(type(now.config), before["config"]), now.config))
    changes = {name: (old.get(name), new.get(name)) for name in sorted(old.keys() | new.keys())
               if old.get(name) != new.get(name)}
    if refused := {name: change for name, change in changes.items() if name not in MAY_CHANGE}:
        raise ConfigError(f"the run in {folder} was started with other options: {_listed(refused)}. "
                          "Use the options it was started with, or another --out")
    for name in sorted(now.sources.keys() | (NAMES.keys() & before.keys())):
        _compare_source(folder, name, before.get(name), now.sources.get(name))
    return changes


def _compare_source(folder: Path, name: str, before: Source | None, now: Source | None) -> None:
    if (before or {}).get("fingerprint") != (now or {}).get("fingerprint"):
        what = NAMES.get(name, name)
        was, now_is = (f"{one['path']} ({one['fingerprint'][:12]})" if one else "none" for one in (before, now))
        raise ConfigError(f"the run in {folder} was started on another {what}: {was}, now {now_is}. "
                          f"Use the same {what}, or another --out")


def _listed(changes: Changes) -> str:
    return "; ".join(f"{name} was {was}, now {now}" for name, (was, now) in changes.items())


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"optim": {"lr": 1}} -> {"optim.lr": 1}"""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
