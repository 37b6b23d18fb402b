"""`python tests/golden/make.py`: write the golden losses anew, after a change that is meant to move them."""

import json
import tempfile
from pathlib import Path

import debug_losses
import dynamics_losses
import torch


def write(path: Path, values: dict[str, list[float]]) -> None:
    path.write_text(json.dumps({"torch": str(torch.__version__), **values}, indent=1) + "\n")
    print(f"wrote {path}: " + ", ".join(f"{name} {found[0]:.6f} to {found[-1]:.6f}" for name, found in values.items()))


with tempfile.TemporaryDirectory() as folder:
    write(debug_losses.GOLDEN, {"mse": debug_losses.debug_losses(Path(folder) / "tokenizer")})
    write(dynamics_losses.GOLDEN, dynamics_losses.dynamics_losses(Path(folder) / "dynamics"))
