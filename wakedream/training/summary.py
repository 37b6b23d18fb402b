"""What a run or checkpoint folder is, in a few lines. Imports no torch."""

import json
from pathlib import Path
from typing import Any

from wakedream.errors import RunError


def describe(path: Path) -> str | None:
    """None when `path` is neither a run nor a checkpoint."""
    if (path / "state.json").exists():
        return "\n".join(_checkpoint(path))
    config = path / "config.json"
    if not config.exists() or "stage" not in _read(config):
        return None
    values = _read(config)
    lines = [f"run: {path}", f"stage: {values['stage']}", f"preset: {values['preset']}",
             f"data: {values['data']['path']}",
             "versions: " + ", ".join(f"{name} {version}" for name, version in values["versions"].items())]
    latest = path / "checkpoints" / "latest"
    newest = path / "checkpoints" / latest.read_text(encoding="utf-8").strip() if latest.exists() else None
    lines += _checkpoint(newest) if newest else ["no checkpoint yet"]
    return "\n".join(lines + _last_metrics(path / "metrics.jsonl"))


def _checkpoint(path: Path) -> list[str]:
    values = _read(path / "state.json")
    return [f"checkpoint: {path}", f"step: {values['step']:,}", f"parameters: {values['parameters']:,}"]


def _last_metrics(file: Path) -> list[str]:
    """The last line of each kind."""
    if not file.exists():
        return []
    last: dict[str, dict[str, Any]] = {}
    for text in file.read_text(encoding="utf-8").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue  # being written just now
        last[line.pop("kind")] = line
    return [f"{kind}: " + ", ".join(f"{name} {value:,.6g}" for name, value in line.items())
            for kind, line in last.items()]


def _read(file: Path) -> dict[str, Any]:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{file} is missing or damaged ({error})") from error
