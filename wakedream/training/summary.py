"""What a run, a checkpoint, weights or a world are, in a few lines; and whether they are whole. Imports no torch."""

import json
from pathlib import Path
from typing import Any

from wakedream import runs
from wakedream.errors import CheckpointError, RunError
from wakedream.training.sums import verify_checkpoint, verify_weights

LISTED = ("data", "tokenizer", "world", "agent", "init")  # what a run is made from
WORLD = ("tokenizer", "dynamics")  # as world/model.py, which imports torch, has them


def describe(path: Path) -> str | None:
    """None when `path` is none of these."""
    if (path / "state.json").exists():
        return "\n".join(_checkpoint(path))
    if _is_world(path):
        return "\n".join(_world(path))
    if not (path / runs.CONFIG).exists():
        return None
    values = _read(path / runs.CONFIG)
    if "stage" in values:
        return "\n".join(_run(path, values))
    if "kind" in values and (path / runs.TENSORS).exists():
        return "\n".join(_weights(path, values))
    return None


def verify(path: Path) -> tuple[list[str], list[str]]:
    """What `describe` describes, every byte: a line for each part, and what is damaged. Of a run the newest checkpoint
    with all its shards, the best weights, and the tokenizer that it keeps."""
    lines, damaged = [], []
    for part in _parts(path):
        try:
            found = (verify_checkpoint if (part / "state.json").exists() or part.name.startswith("step_")
                     else verify_weights)(part)
        except (CheckpointError, RunError) as error:
            found = "damaged"
            damaged.append(str(error))
        lines.append(f"checksums: {part.relative_to(path) if part != path else path.name}: {found}")
    return lines, damaged


def _parts(path: Path) -> list[Path]:
    if (path / runs.TENSORS).exists() or (path / "state.json").exists():
        return [path]
    newest, others = _newest(path), (runs.BEST, *WORLD)
    return [*([newest] if newest else []), *(path / name for name in others if (path / name / runs.CONFIG).exists())]


def _newest(run: Path) -> Path | None:
    latest = run / "checkpoints" / "latest"
    return run / "checkpoints" / latest.read_text(encoding="utf-8").strip() if latest.exists() else None


def _is_world(path: Path) -> bool:
    """Those of before they had a config.json, too."""
    whole = all((path / name / runs.CONFIG).exists() for name in WORLD)
    return whole and (not (path / runs.CONFIG).exists() or _read(path / runs.CONFIG).get("kind") == "world")


def _world(path: Path) -> list[str]:
    lines = [f"world: {path}"]
    for name in WORLD:
        lines += _weights(path / name, _read(path / name / runs.CONFIG))
    return lines


def _run(path: Path, values: dict[str, Any]) -> list[str]:
    sources = [f"{name}: {values[name]['path']} ({values[name]['fingerprint'][:12]})"
               for name in LISTED if name in values]
    lines = [f"run: {path}", f"stage: {values['stage']}", f"preset: {values['preset']}", *sources,
             "versions: " + ", ".join(f"{name} {version}" for name, version in values["versions"].items())]
    newest = _newest(path)
    try:
        lines += _checkpoint(newest) if newest else ["no checkpoint yet"]
    except RunError as error:  # `verify` says what to make of it
        lines.append(f"checkpoint: {newest}, damaged: {error}")
    if (path / runs.BEST).exists():
        by = values.get("judged_by")
        lines.append(f"best weights: {path / runs.BEST}" + (f", by {by.upper()}" if by else ""))
    return lines + _last_metrics(path / "metrics.jsonl")


def _checkpoint(path: Path) -> list[str]:
    values, model = _read(path / "state.json"), path / "model" / runs.CONFIG
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
