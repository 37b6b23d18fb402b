"""Weights folders: config.json beside model.safetensors; and which one a run folder means."""

import hashlib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from wakedream.config import from_dict, to_dict
from wakedream.errors import CheckpointError
from wakedream.runs import atomic, write_json
from wakedream.tokenizer.config import TokenizerConfig
from wakedream.tokenizer.tokenizer import Tokenizer

FORMAT = 1


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """The weights first, then the config: a folder with a config is complete."""
    folder.mkdir(parents=True, exist_ok=True)
    with atomic(folder / "model.safetensors") as beside:
        save_file(
            {name: tensor.detach().cpu().contiguous() for name, tensor in tokenizer.state_dict().items()},
            beside,
        )
    write_json(
        folder / "config.json", {"format": FORMAT, "kind": "tokenizer", "model": to_dict(tokenizer.config)}
    )


def load_tokenizer(path: Path) -> Tokenizer:
    folder = weights_folder(path)
    config = _config(folder / "config.json")
    tokenizer = Tokenizer(config)
    file = folder / "model.safetensors"
    try:
        state = load_file(file)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"the weights {file} are damaged or missing ({error}): "
            "take another checkpoint of the run, or train again"
        ) from error
    own = tokenizer.state_dict()
    wrong = sorted(
        name
        for name in own.keys() | state.keys()
        if name not in own or name not in state or own[name].shape != state[name].shape
    )
    if wrong:
        raise CheckpointError(
            f"the weights {file} do not fit their config.json, first at '{wrong[0]}' "
            f"({len(wrong)} tensors): the two files are not from one save"
        )
    tokenizer.load_state_dict(state)
    return tokenizer.eval()


def fingerprint(tokenizer: Tokenizer) -> str:
    """sha256 over config and tensors: the same for the same tokenizer on any device, saved or not."""
    digest = hashlib.sha256(json.dumps(to_dict(tokenizer.config), sort_keys=True).encode())
    for name, tensor in sorted(tokenizer.state_dict().items()):
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
    latest = path / "checkpoints" / "latest"
    if latest.exists():
        return path / "checkpoints" / latest.read_text().strip() / "model"
    what = (
        "a run without a checkpoint yet"
        if (path / "config.json").exists()
        else "neither a run nor a weights folder"
    )
    raise CheckpointError(
        f"{path} is {what}: give a run folder with a checkpoint, or a folder with model.safetensors"
    )


def _config(file: Path) -> TokenizerConfig:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} is missing or damaged ({error}): take another checkpoint") from error
    if values.get("kind") != "tokenizer":
        raise CheckpointError(f"{file} describes '{values.get('kind')}', expected a tokenizer")
    if values.get("format", 0) > FORMAT:
        raise CheckpointError(
            f"{file} has format {values['format']}, this version reads up to {FORMAT}: upgrade wakedream"
        )
    return from_dict(TokenizerConfig, values["model"])
