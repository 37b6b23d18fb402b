"""All that must survive the end of a process for training to go on as if nothing had happened."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from wakedream.errors import CheckpointError
from wakedream.training.balance import LossBalance
from wakedream.training.distributed import Place
from wakedream.training.ema import Ema
from wakedream.training.gradients import FiniteCheck
from wakedream.training.metrics import Meter
from wakedream.training.tree import pack, unpack


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
    elapsed: float = 0.0  # seconds of training

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values, nested. Collective: all processes must call it."""
        own = {"batches": self.batches.state_dict(), "generators": generators(self.place.device)}
        return {
            "step": self.step,
            "elapsed": self.elapsed,
            "objective": self._trained(),
            "optimizers": [optimizer_state(optimizer) for optimizer in self.optimizers],
            "ema": self.ema.model.state_dict(),
            "balance": self.balance.state_dict(),
            "finite": self.finite.state_dict(),
            "meter": self.meter.state_dict(),
            "processes": [unpack(*one) for one in self.place.gather(*pack(own))],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if len(state["processes"]) != self.place.world_size:
            raise CheckpointError(f"the run was saved by {len(state['processes'])} processes, this is one of "
                                  f"{self.place.world_size}: start it with as many as before")
        self.step, self.elapsed = state["step"], state["elapsed"]
        missing, unexpected = self.objective.load_state_dict(state["objective"], strict=False)
        wrong = [*unexpected, *(name for name in missing if name in self._trained())]
        assert not wrong, wrong
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            load_optimizer(optimizer, saved)
        self.ema.model.load_state_dict(state["ema"])
        self.balance.load_state_dict(state["balance"], self.place.device)
        self.finite.load_state_dict(state["finite"])
        self.meter.load_state_dict(state["meter"], self.place.device)
        own = state["processes"][self.place.rank]
        self.batches.load_state_dict(own["batches"])
        set_generators(own["generators"], self.place.device)

    def _trained(self) -> dict[str, Tensor]:
        """Weights and buffers, without frozen weights: those come from their own files."""
        frozen = {name for name, weight in self.objective.named_parameters() if not weight.requires_grad}
        return {name: tensor for name, tensor in self.objective.state_dict().items() if name not in frozen}


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Without "lr", which is a function of the step."""
    state = optimizer.state_dict()
    groups = [{name: value for name, value in group.items() if name != "lr"} for group in state["param_groups"]]
    return {"state": state["state"], "param_groups": groups}


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    groups = [{**saved, "lr": group["lr"]}
              for saved, group in zip(state["param_groups"], optimizer.param_groups, strict=True)]
    optimizer.load_state_dict({"state": state["state"], "param_groups": groups})


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


def set_generators(states: dict[str, Any], device: torch.device) -> None:
    random.setstate(states["python"])
    kind, keys, *rest = states["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(states["torch"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
