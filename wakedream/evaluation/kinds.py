"""What is to be evaluated, and so which options there are. Imports no torch."""

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wakedream.errors import CheckpointError
from wakedream.evaluation.config import AGENT, DYNAMICS, EVALUATE, TOKENIZER, EvaluateConfig
from wakedream.runs import BEST, TENSORS, located

# of a run; a world is evaluated as its dynamics model
STAGES = {"tokenizer": TOKENIZER, "dynamics": DYNAMICS, "agent": AGENT, "imagination": AGENT}
KINDS = {TOKENIZER: TOKENIZER, DYNAMICS: DYNAMICS, "world": DYNAMICS, AGENT: AGENT}  # of weights
WORLD = "dynamics"  # the folder in a world's that says what it is, where it has no config.json


def config_type(arguments: Sequence[str]) -> type[EvaluateConfig]:
    """The options for RUN, which is among the arguments; those that are common to all kinds where it is not."""
    run = _positional(arguments)
    return EvaluateConfig if run is None else EVALUATE[kind_of(Path(run))]


def kind_of(path: Path) -> str:
    """TOKENIZER, DYNAMICS or AGENT: what a run folder, a checkpoint, a weights folder, or the folder of a world or an
    agent holds.

    CheckpointError when it is none of these.
    """
    path = located(path)
    latest = path / "checkpoints" / "latest"
    newest = [path / "checkpoints" / latest.read_text(encoding="utf-8").strip() / "model"] if latest.exists() else []
    for folder in (path, path / "model", path / BEST, *newest):
        if (folder / "config.json").exists():
            values = _read(folder / "config.json")
            kind = STAGES.get(values.get("stage", "")) or KINDS.get(values.get("kind", ""))
            if kind is None:
                what = values.get("stage") or values.get("kind")
                raise CheckpointError(f"{path} holds a '{what}': expected the run of a {' or a '.join(EVALUATE)}")
            return kind
    if (path / AGENT / TENSORS).exists():  # as wd.Agent.save_pretrained writes it
        return AGENT
    if (path / WORLD).is_dir():
        return DYNAMICS
    raise CheckpointError(f"{path} is neither a run nor a weights folder: give a run folder with a checkpoint, or a "
                          "folder with model.safetensors")


def _read(file: Path) -> dict[str, Any]:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} is missing or damaged ({error}): take another checkpoint") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{file} is damaged (no JSON object): take another checkpoint")
    return values


def _positional(arguments: Sequence[str]) -> str | None:
    """The first word that is neither an option nor an option's value."""
    taken: float = 0
    for word in arguments:
        if word.startswith("-"):
            taken = 0 if "=" in word else _values(word.lstrip("-").replace("_", "-"))
        elif taken:
            taken -= 1
        else:
            return word
    return None


def _values(option: str) -> float:
    """How many words follow it."""
    types = {field.name.replace("_", "-"): field.type for config in EVALUATE.values()
             for field in dataclasses.fields(config)}
    if option in ("h", "help") or types.get(option.removeprefix("no-")) is bool:
        return 0
    return math.inf if "tuple" in str(types.get(option, "")) else 1
