"""Checkpoints of a run: complete or absent, verified when read.

    RUN/checkpoints/step_00001000/model/             averaged weights, a weights folder
                                  state.safetensors  all tensors of the training state
                                  state.json         all plain values, checksums of the other files
    RUN/checkpoints/latest                           the name of the newest one
"""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from wakedream import runs
from wakedream.errors import CheckpointError, RunError
from wakedream.training.tree import all_finite, pack, unpack

FORMAT = 1


class Checkpoints:
    """The checkpoints of one run folder; `keep` newest stay."""

    def __init__(self, folder: Path, keep: int):
        self.folder, self.keep = folder, keep

    def save(self, step: int, state: dict[str, Any], model: nn.Module) -> Path:
        """Write beside, flush, rename, move `latest`: a process that dies leaves the last one usable."""
        tensors, plain = pack(state)
        if not all_finite(tensors):
            raise RunError(f"step {step}: the weights are not finite any more, so this state is not "
                           f"saved. The checkpoints in {self.folder} stay; lower --optim.lr or use "
                           "--train.precision float32")
        path = self.path(step)
        with runs.atomic(path) as beside:
            beside.mkdir()
            model.save_pretrained(beside / "model")  # type: ignore[operator]
            save_file(tensors, beside / "state.safetensors")
            parameters = sum(parameter.numel() for parameter in model.parameters())
            values = {"format": FORMAT, "step": step, "parameters": parameters, "state": plain,
                      "files": _sums(beside)}
            runs.write_json(beside / "state.json", {"checksum": _checksum(values), **values})
        with runs.atomic(self.folder / "latest") as beside:
            beside.write_text(path.name + "\n", encoding="utf-8")
        for old in self.all()[: -self.keep]:
            runs.remove(old)
        return path

    def latest(self) -> Path | None:
        """The newest complete checkpoint, None before the first."""
        complete = self.all()
        marker = self.folder / "latest"
        if marker.exists():
            marked = self.folder / marker.read_text(encoding="utf-8").strip()
            if marked in complete:
                return marked
            if complete:
                print(f"{marked.name} is gone, going on from {complete[-1].name}", file=sys.stderr)
        return complete[-1] if complete else None

    def load(self, path: Path) -> dict[str, Any]:
        """The state that was saved, on the host; CheckpointError names the one before if it is damaged."""
        try:
            return read_state(path)
        except CheckpointError as error:
            before = [other.name for other in self.all() if other.name < path.name]
            advice = (f"delete {path} and run the same command again: it goes on from {before[-1]}" if before
                      else "there is none before it, train again into another --out")
            raise CheckpointError(f"{error}; {advice}") from error

    def path(self, step: int) -> Path:
        return self.folder / f"step_{step:08d}"

    def all(self) -> list[Path]:
        """Oldest first. A folder still being written has another name."""
        return sorted(path for path in self.folder.glob("step_*") if path.is_dir())

    def clean(self) -> None:
        """Remove what a killed process left half-written."""
        for partial in self.folder.glob(".*.partial"):
            runs.remove(partial)


def read_state(path: Path) -> dict[str, Any]:
    values = read_json(path)
    for name, expected in values["files"].items():
        file = path / name
        if not file.exists() or _sha256(file) != expected:
            raise CheckpointError(f"the checkpoint {path} is damaged: {name} is "
                                  f"{'missing' if not file.exists() else 'not what was written (checksum)'}")
    try:
        return unpack(load_file(path / "state.safetensors"), values["state"])
    except SafetensorError as error:
        raise CheckpointError(f"the checkpoint {path} is damaged: state.safetensors ({error})") from error


def read_json(path: Path) -> dict[str, Any]:
    """A checkpoint's state.json, verified."""
    try:
        values = json.loads((path / "state.json").read_text(encoding="utf-8"))
        checksum = values.pop("checksum")
    except (OSError, ValueError, AttributeError, KeyError) as error:
        raise CheckpointError(f"the checkpoint {path} is damaged: state.json ({error})") from error
    if checksum != _checksum(values):
        raise CheckpointError(f"the checkpoint {path} is damaged: state.json is not what was written")
    if values["format"] > FORMAT:
        raise CheckpointError(f"the checkpoint {path} has format {values['format']}, this version reads "
                              f"up to {FORMAT}: upgrade wakedream")
    return values


def _sums(folder: Path) -> dict[str, str]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): _sha256(file) for file in files}


def _sha256(file: Path) -> str:
    with open(file, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _checksum(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
