"""`python tests/golden/make.py`: write the golden losses anew, after a change that is meant to move them."""

import json
import tempfile
from pathlib import Path

import torch
from debug_losses import GOLDEN, debug_losses

with tempfile.TemporaryDirectory() as folder:
    values = {"torch": str(torch.__version__), "mse": debug_losses(Path(folder))}
GOLDEN.write_text(json.dumps(values, indent=1) + "\n")
print(f"wrote {GOLDEN}: {values['mse'][0]:.6f} to {values['mse'][-1]:.6f}")
