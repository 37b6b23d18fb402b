"""Weights folders of any model: config.json beside model.safetensors; and which one a run folder means."""

import hashlib
import json
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from wakedream.errors import CheckpointError
from wakedream.runs import BEST, atomic, write_json

FORMAT = 1
Model = TypeVar("Model", bound=nn.Module)


def save_weights(model: nn.Module, folder: Path, kind: str, about: dict[str, Any]) -> None:
    """The weights first, then the config, `about` of this kind: a folder with a config is complete."""
    folder.mkdir(parents=True, exist_ok=True)
    with atomic(folder / "model.safetensors") as beside:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}, beside)
    write_json(folder / "config.json", {"format": FORMAT, "kind": kind, **about})


def load_weights(model: Model, folder: Path) -> Model:
    """The model with the folder's weights, in eval mode. CheckpointError when they are damaged or do not fit."""
    file = folder / "model.safetensors"
    try:
        state = load_file(file)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"the weights {file} are damaged or missing ({error}): "
                              "take another checkpoint of the run, or train again") from error
    own = model.state_dict()
    wrong = sorted(name for name in own.keys() | state.keys()
                   if name not in own or name not in state or own[name].shape != state[name].shape)
    if wrong:
        raise CheckpointError(f"the weights {file} do not fit their config.json, first at '{wrong[0]}' "
                              f"({len(wrong)} tensors): the two files are not from one save")
    model.load_state_dict(state)
    return model.eval()


def read_about(folder: Path, kind: str) -> dict[str, Any]:
    """What `save_weights` was told; CheckpointError when the folder holds another kind of model."""
    file = folder / "config.json"
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} is missing or damaged ({error}): take another checkpoint") from error
    if values.get("kind") != kind:
        raise CheckpointError(f"{file} describes '{values.get('kind')}', expected a {kind}")
    if values.get("format", 0) > FORMAT:
        raise CheckpointError(
            f"{file} has format {values['format']}, this version reads up to {FORMAT}: upgrade wakedream")
    return values


def fingerprint(model: nn.Module, config: dict[str, Any]) -> str:
    """sha256 over config and tensors: the same for the same model on any device, saved or not."""
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f" {name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def weights_folder(path: Path) -> Path:
    """The weights folder that a run folder, a checkpoint folder or a weights folder means."""
    if not path.exists():
        raise CheckpointError(f"{path} does not exist: give a run folder or a weights folder")
    if (path / "model.safetensors").exists():
        return path
    if (path / "model" / "config.json").exists():
        return path / "model"
    if (path / BEST / "config.json").exists():
        return path / BEST
    latest = path / "checkpoints" / "latest"
    if latest.exists():
        return path / "checkpoints" / latest.read_text().strip() / "model"
    what = "a run without a checkpoint yet" if (path / "config.json").exists() else "neither a run nor a weights folder"
    raise CheckpointError(f"{path} is {what}: give a run folder with a checkpoint, or a folder with model.safetensors")
