"""All that must survive the end of a process for training to go on as if nothing had happened."""

import math
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from wakedream.training.balance import LossBalance
from wakedream.training.distributed import Place
from wakedream.training.ema import Ema
from wakedream.training.gradients import FiniteCheck
from wakedream.training.metrics import Meter
from wakedream.training.stored import Stored, fill, read_all
from wakedream.training.tree import on_host, pack, unpack


@runtime_checkable
class Batches(Protocol):
    """An endless iterator of clips on the device that can go on where another process stopped."""

    def __iter__(self) -> Iterator[Any]: ...
    def __next__(self) -> Any: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@dataclass
class TrainState:
    """The list, by hand. The schedule is a pure function of step and elapsed and needs no entry."""

    objective: nn.Module  # weights, and buffers such as a mask generator's state
    optimizers: list[torch.optim.Optimizer]
    ema: Ema
    balance: LossBalance
    batches: Batches
    finite: FiniteCheck
    meter: Meter
    place: Place
    step: int = 0  # optimizer steps done
    frames: int = 0  # trained on in them, by all processes
    elapsed: float = 0.0  # seconds of training
    best: float = -math.inf  # score of the best weights so far
    best_by: str = ""  # what it is
    verdict: str = ""  # of the last check: what is to be said, if training ends with it

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values, nested. Collective: all processes must call it."""
        tensors, plain = pack({"batches": self.batches.state_dict(), "generators": generators(self.place.device)})
        return {
            "step": self.step,
            "frames": self.frames,
            "elapsed": self.elapsed,
            "best": None if self.best == -math.inf else self.best,
            "best_by": self.best_by,
            "verdict": self.verdict,
            "objective": self._trained(),
            "optimizers": [optimizer.state_dict()["state"] for optimizer in self.optimizers],
            "ema": self.ema.state_dict(),
            "balance": self.balance.state_dict(),
            "finite": self.finite.state_dict(),
            "meter": self.meter.state_dict(),
            "processes": [unpack(*one) for one in self.place.gather(on_host(tensors), plain)],
        }

    def load_state_dict(self, state: dict[str, Any], seed: int) -> None:
        """What a checkpoint holds, whether it was written by as many processes or by others.

        The place in the data counts the clips of all processes and is the same for any number of them. Random
        generators belong to one process each: with another number, all are seeded anew.
        """
        self.step, self.frames, self.elapsed = state["step"], state["frames"], state["elapsed"]
        self.best = -math.inf if state["best"] is None else state["best"]
        self.best_by = state.get("best_by", "")  # checkpoints of before it was kept: nothing compares
        self.verdict = state.get("verdict", "")
        trained = self._trained()
        assert trained.keys() == state["objective"].keys(), trained.keys() ^ state["objective"].keys()
        for name, tensor in trained.items():
            fill(tensor, state["objective"][name])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            load_optimizer(optimizer, saved)
        self.ema.load_state_dict(state["ema"])
        self.balance.load_state_dict(read_all(state["balance"]), self.place.device)
        self.finite.load_state_dict(state["finite"])
        self.meter.load_state_dict(read_all(state["meter"]), self.place.device)
        self._load_own(state["processes"], seed)

    def _load_own(self, processes: list[dict[str, Any]], seed: int) -> None:
        rank, world = self.place.rank, self.place.world_size
        same = len(processes) == world
        own = read_all(processes[rank if same else 0])
        self.batches.load_state_dict(own["batches"])
        if same:
            set_generators(own["generators"], self.place.device)
            return
        seed_generators(seed, self.step, rank)
        if self.place.writes:
            print(f"saved by {len(processes)} processes, going on with {world}: random generators start anew",
                  file=sys.stderr)

    def _trained(self) -> dict[str, Tensor]:
        """Weights and buffers, without frozen weights: those come from their own files."""
        frozen = {name for name, weight in self.objective.named_parameters() if not weight.requires_grad}
        return {name: tensor for name, tensor in self.objective.state_dict().items() if name not in frozen}


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[int, dict[str, Any]]) -> None:
    """State of a parameter's shape is sharded like the parameter. The options stay: they follow from the config and
    the device, and "lr" from the step."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]

    def read(value: Any, parameter: Tensor) -> Any:
        if not isinstance(value, Stored):
            return value
        if value.shape != tuple(parameter.shape):
            return value.read()
        made = torch.empty_like(parameter)
        fill(made, value)
        return made

    values = {index: {name: read(value, parameters[index]) for name, value in entries.items()}
              for index, entries in state.items()}
    optimizer.load_state_dict({"state": values, "param_groups": optimizer.state_dict()["param_groups"]})


def generators(device: torch.device) -> dict[str, Any]:
    """The states of all random generators that training may draw from."""
    kind, keys, place, has_gauss, gauss = np.random.get_state(legacy=True)  # type: ignore[misc]
    states = {
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(keys.astype(np.int64)), place, has_gauss, gauss),  # type: ignore[union-attr]
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def seed_generators(*numbers: int) -> None:
    """By all the numbers together, and different for each choice of them."""
    seed = int(np.random.SeedSequence(numbers).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)  # of all devices


def set_generators(states: dict[str, Any], device: torch.device) -> None:
    random.setstate(states["python"])
    kind, keys, *rest = states["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(states["torch"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
