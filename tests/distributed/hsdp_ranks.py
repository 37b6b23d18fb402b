"""What processes on what they take for several hosts do for test_hsdp.py; arguments are a folder and a device. Muon
computes in float32: where gradients hardly point anywhere bf16 goes where each device rounds to."""

import sys
from pathlib import Path

import ranks
import torch
from safetensors.torch import save_file

from wakedream.training import optim
from wakedream.training.distributed import join

if __name__ == "__main__":
    torch.set_num_threads(1)
    optim.lowers = lambda *_: False
    folder, device = Path(sys.argv[1]), sys.argv[2]
    with join(device) as place:

        def keep(name: str, tensors: dict) -> None:
            save_file(tensors, folder / f"{name}.{place.rank}.safetensors")

        keep("gradients", ranks.gradients(place, parallel="hsdp"))
        keep("whole", ranks.everything(ranks.train(folder / "whole", place, 0.1, parallel="hsdp")))
        ranks.train(folder / "parts", place, 0.1, parallel="hsdp", steps=2)
        keep("parts", ranks.everything(ranks.train(folder / "parts", place, 0.1, parallel="hsdp")))
        keep("steps", ranks.everything(ranks.train(folder / "steps", place, parallel="hsdp")))
        (folder / f"done.{place.rank}").touch()
