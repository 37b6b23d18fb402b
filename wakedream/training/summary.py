"""What a run, a checkpoint or a weights folder is, in a few lines. Imports no torch."""

import json
from pathlib import Path
from typing import Any

from wakedream import runs
from wakedream.errors import RunError

LISTED = ("data", "tokenizer")  # what a run is made from


def describe(path: Path) -> str | None:
    """None when `path` is none of these."""
    if (path / "state.json").exists():
        return "\n".join(_checkpoint(path))
    if not (path / "config.json").exists():
        return None
    values = _read(path / "config.json")
    if "stage" in values:
        return "\n".join(_run(path, values))
    if "kind" in values and (path / "model.safetensors").exists():
        return "\n".join(_weights(path, values))
    return None


def _run(path: Path, values: dict[str, Any]) -> list[str]:
    sources = [f"{name}: {values[name]['path']} ({values[name]['fingerprint'][:12]})"
               for name in LISTED if name in values]
    lines = [f"run: {path}", f"stage: {values['stage']}", f"preset: {values['preset']}", *sources,
             "versions: " + ", ".join(f"{name} {version}" for name, version in values["versions"].items())]
    latest = path / "checkpoints" / "latest"
    newest = path / "checkpoints" / latest.read_text(encoding="utf-8").strip() if latest.exists() else None
    lines += _checkpoint(newest) if newest else ["no checkpoint yet"]
    if (path / runs.BEST).exists():
        lines.append(f"best weights: {path / runs.BEST}")
    return lines + _last_metrics(path / "metrics.jsonl")


def _checkpoint(path: Path) -> list[str]:
    values, model = _read(path / "state.json"), path / "model" / "config.json"
    kind = [f"of: {_read(model)['kind']}"] if model.exists() else []
    return [f"checkpoint: {path}", *kind, f"step: {values['step']:,}", f"parameters: {values['parameters']:,}"]


def _weights(path: Path, values: dict[str, Any]) -> list[str]:
    """A model's own config, and what else was kept beside it."""
    lines = [f"weights: {path}", f"of: {values['kind']}",
             "model: " + ", ".join(f"{name} {_plain(value)}" for name, value in values["model"].items())]
    for component in values.get("actions", {}).get("components", []):
        lines.append(f"action: {component['name']}, {component['kind']}, {component['size']}")
    if values.get("tokenizer"):
        lines.append(f"trained on latents of the tokenizer: {values['tokenizer'][:12]}")
    return lines


def _plain(value: Any) -> str:
    return "-".join(map(str, value)) if isinstance(value, list) else str(value)


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
