"""Stand-ins: a model, an objective and batches small enough to see through."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from wakedream.training.config import TrainConfig
from wakedream.training.distributed import Place
from wakedream.training.loop import fit


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 8), nn.Linear(8, 4)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.second(torch.tanh(self.first(x)))

    def save_within(self, folder: Path) -> None:
        folder.mkdir()
        save_file(self.state_dict(), folder / "model.safetensors")


class Objective(nn.Module):
    """Denoise with fresh noise (torch's generator); `broken_at` makes those calls' losses NaN."""

    def __init__(self, broken_at: range = range(0)):
        super().__init__()
        self.model, self.weights = Model(), {"square": 1.0, "size": 0.1}
        self.broken_at, self.calls = broken_at, 0
        self.frozen = nn.Linear(4, 4).requires_grad_(False)

    @property
    def blocks(self) -> list[nn.Module]:
        return [self.model.first, self.model.second]

    @property
    def compiled(self) -> list[nn.Module]:
        return self.blocks

    def prepare(self, step):
        return None

    def forward(self, clip: Tensor) -> dict[str, Tensor]:
        self.calls += 1
        out = self.model(clip + 0.1 * torch.randn_like(clip))
        factor = float("nan") if self.calls - 1 in self.broken_at else 1.0
        return {"square": factor * (out - clip).square().mean(), "size": out.abs().mean()}


class Still(Objective):
    """Without noise, so that ranks can be compared with one process."""

    def forward(self, clip: Tensor) -> dict[str, Tensor]:
        out = self.model(clip)
        return {"square": (out - clip).square().mean(), "size": out.abs().mean()}


class Batches:
    def __init__(self, seed: int = 0):
        self.seed, self.position = seed, 0

    def __iter__(self) -> "Batches":
        return self

    def __next__(self) -> Tensor:
        self.position += 1
        return torch.randn(8, 4, generator=torch.Generator().manual_seed(self.seed + self.position))

    def state_dict(self) -> dict:
        return {"position": self.position}

    def load_state_dict(self, state: dict) -> None:
        self.position = state["position"]


def optimizers(model: nn.Module) -> list[torch.optim.Optimizer]:
    made = [torch.optim.AdamW(model.first.parameters(), lr=1e-2, fused=True),
            torch.optim.SGD(model.second.parameters(), lr=1e-2, momentum=0.9)]
    for optimizer in made:
        for group in optimizer.param_groups:
            group["base_lr"] = group["lr"]
    return made


def config(**changes) -> TrainConfig:
    """Small, exact, logging every step."""
    values = {"steps": 6, "warmup_steps": 2, "precision": "float32", "compile": "off", "log_every": 1,
              "evaluate_every": 3, "save_every": 2, "device": "cpu"}
    return TrainConfig(**{**values, **changes})


def run(folder: Path, make=Objective, evaluate=None, place: Place | None = None, **changes):
    """`fit` on the stand-ins from seed 0."""
    torch.manual_seed(0)
    objective = make()
    place = place or Place(torch.device("cpu"))
    folder.mkdir(exist_ok=True)
    return fit(objective, optimizers, Batches(), config(**changes), place, folder, 8, evaluate)


class Kit:
    Model, Objective, Still, Batches = Model, Objective, Still, Batches
    optimizers, config, run = staticmethod(optimizers), staticmethod(config), staticmethod(run)


@pytest.fixture
def kit() -> type[Kit]:
    return Kit
