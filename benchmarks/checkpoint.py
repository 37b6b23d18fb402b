"""For how long training stands still for a checkpoint: written at once, or by a thread while training goes on.

    python benchmarks/checkpoint.py [--million 30] [--saves 5]

Layers with AdamW's state and averaged weights, on the CPU. Prints, in seconds, median and range of: a step; what
`save` takes until it returns; until the files are complete; and a step meanwhile.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from wakedream.training.checkpoint import Checkpoints
from wakedream.training.config import OptimConfig
from wakedream.training.ema import Ema
from wakedream.training.optim import build_optimizers

WIDTH = 512


class Model(nn.Module):
    def __init__(self, layers: int):
        super().__init__()
        self.body = nn.ModuleDict({"layers": nn.ModuleList(
            nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.SiLU(), nn.Linear(4 * WIDTH, WIDTH)) for _ in range(layers))})

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.body["layers"]:
            x = x + layer(x)
        return x

    def save_within(self, folder: Path) -> None:
        folder.mkdir()
        save_file(self.state_dict(), folder / "model.safetensors")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--million", type=float, default=30.0, help="parameters")
    parser.add_argument("--saves", type=int, default=5)
    options = parser.parse_args()
    model = Model(max(1, round(options.million * 1e6 / (8 * WIDTH * WIDTH))))
    ema, optimizers = Ema(model, 0.999), build_optimizers(model, OptimConfig(name="adamw"))
    clip, took = torch.randn(64, WIDTH), {name: [] for name in ("step", "stands still", "complete", "step meanwhile")}

    def step() -> float:
        began = time.perf_counter()
        model(clip).square().mean().backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        ema.update(model)
        return time.perf_counter() - began

    for _ in range(3):
        step()
    with tempfile.TemporaryDirectory(dir=".") as folder, Checkpoints(Path(folder), 1) as checkpoints:
        for number in range(options.saves + 1):
            took["step"] += [step() for _ in range(3)]
            state = {"objective": model.state_dict(), "ema": ema.state_dict(),
                     "optimizers": [optimizer.state_dict()["state"] for optimizer in optimizers]}
            began = time.perf_counter()
            checkpoints.save(number, state, ema.model)
            still = time.perf_counter() - began
            if number % 2:  # every second one alone, as it was before there was a thread
                checkpoints.wait()
                took["complete"].append(time.perf_counter() - began)
            else:
                took["step meanwhile"] += [step() for _ in range(3)]
                checkpoints.wait()
            if number == 0:
                print(f"first save stands still for {still:.2f} s: it takes the memory that later ones use")
            else:
                took["stands still"].append(still)
    count = sum(weight.numel() for weight in model.parameters())
    print(f"{count / 1e6:.1f} M parameters, {torch.get_num_threads()} threads, {sys.platform}")
    for name, seconds in took.items():
        print(f"{name:15} {statistics.median(seconds):.3f} ({min(seconds):.3f} to {max(seconds):.3f})")


if __name__ == "__main__":
    main()
