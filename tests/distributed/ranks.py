"""What two processes do for test_ranks.py: RANK and WORLD_SIZE are set; arguments are a folder and a device."""

import contextlib
import errno
import os
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from unittest import mock

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from wakedream.errors import OwnWarning, RunError
from wakedream.training import distributed
from wakedream.training.config import OptimConfig, TrainConfig
from wakedream.training.distributed import Place, join, wrap
from wakedream.training.loop import begin, fit
from wakedream.training.metrics import Check
from wakedream.training.optim import build_optimizers
from wakedream.training.shards import whole
from wakedream.transformer import layers

PARALLEL = ("ddp", "fsdp")


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.up = nn.LayerNorm(6), nn.Linear(6, 9, bias=False)
        self.down = nn.Linear(9, 6, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(torch.tanh(self.up(self.norm(x))))


class Model(nn.Module):
    """Odd numbers of rows, a parameter of one row and one of none, frozen weights, layers that are used twice, a layer
    that not every step uses, a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.ModuleDict({"layers": nn.ModuleList(Block() for _ in range(2))})
        self.token, self.head = nn.Parameter(torch.randn(1, 6)), nn.Linear(6, 5)
        self.nothing, self.fixed = nn.Parameter(torch.randn(0, 6)), nn.Linear(6, 6).requires_grad_(False)
        self.seldom, self.is_used = nn.Linear(6, 5), True
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        x = self.fixed(x) + self.token + self.nothing.sum(0)
        for layer in (*self.body["layers"], *self.body["layers"]):
            x = layer(x)
        return self.head(x) + self.seldom(x) if self.is_used else self.head(x)

    def predict(self, x: Tensor) -> Tensor:
        return self(x)

    def save_within(self, folder: Path) -> None:
        folder.mkdir()
        save_file(self.state_dict(), folder / "model.safetensors")


class Objective(nn.Module):
    def __init__(self, noise: float):
        super().__init__()
        self.model, self.noise, self.weights = Model(), noise, {"square": 1.0, "size": 0.1}
        self.frozen = nn.Linear(4, 4).requires_grad_(False)

    @property
    def blocks(self) -> list[nn.Module]:
        return list(self.model.body["layers"])

    @property
    def compiled(self) -> list[nn.Module]:
        return self.blocks

    @property
    def idle(self) -> list[nn.Module]:
        return [] if self.model.is_used else [self.model.seldom]

    def prepare(self, step):
        self.model.is_used = step % 2 == 1
        return self.model.is_used

    def forward(self, clip: Tensor) -> dict[str, Tensor]:
        out = self.model(clip + self.noise * torch.randn_like(clip))
        return {"square": (out - clip[:, :5]).square().mean(), "size": out.abs().mean()}


class Batches:
    """A process's share of eight clips; float64, so that what differs is no rounding."""

    def __init__(self, place: Place):
        self.place, self.position = place, 0

    def __iter__(self) -> "Batches":
        return self

    def __next__(self) -> Tensor:
        self.position += 1
        clips = torch.randn(8, 6, generator=torch.Generator().manual_seed(self.position), dtype=torch.float64)
        return clips.chunk(self.place.world_size)[self.place.rank].to(self.place.device)

    def state_dict(self) -> dict:
        return {"position": self.position}

    def load_state_dict(self, state: dict) -> None:
        self.position = state["position"]


def optimizers(model: nn.Module) -> list[torch.optim.Optimizer]:
    return build_optimizers(model, OptimConfig(weight_decay=0.1))


def config(**changes) -> TrainConfig:
    values = {"steps": 4, "warmup_steps": 2, "precision": "float32", "compile": "off", "log_every": 1, "seed": 1,
              "evaluate_every": 2, "save_every": 2, "decay_fraction": 0.0, "keep_checkpoints": 9}
    return TrainConfig(**{**values, **changes})


def made(noise: float) -> Objective:
    torch.manual_seed(0)
    return Objective(noise).double()


def look(model: Model) -> Check:
    return Check({"psnr": float(model.predict(torch.ones_like(model.token)).sum())})


def train(folder: Path, place: Place, noise: float = 0.0, **changes):
    folder.mkdir(parents=True, exist_ok=True)
    objective = made(noise)
    torch.manual_seed(place.rank)
    batch_size = 8 // place.world_size
    return fit(objective, optimizers, Batches(place), config(**changes), place, folder, batch_size, look)


def gradients(place: Place, **changes) -> dict[str, Tensor]:
    """Of the first batch."""
    options = config(**changes)
    state = begin(made(0.0), optimizers, Batches(place), options, place)
    forward = wrap(state.objective, options, place)
    state.balance(forward(next(state.batches))).backward()
    return {name: whole(weight.grad) for name, weight in learned(state).items()}


def learned(state) -> dict[str, Tensor]:
    return {name: weight for name, weight in state.objective.model.named_parameters() if weight.requires_grad}


def everything(state) -> dict[str, Tensor]:
    """All that was trained, whole."""
    found = {f"model.{name}": whole(weight) for name, weight in learned(state).items()}
    found |= {f"ema.{name}": whole(average) for name, average in state.ema.averages.items()}
    for number, optimizer in enumerate(state.optimizers):
        for index, entries in optimizer.state_dict()["state"].items():
            found |= {f"optimizer.{number}.{index}.{name}": whole(value) for name, value in entries.items()}
    return {name: tensor.detach().clone().contiguous() for name, tensor in found.items()}


def work(place: Place, out: Path) -> None:
    def keep(name: str, tensors: dict[str, Tensor]) -> None:
        save_file(tensors, out / f"{name}.{place.rank}.safetensors")

    for parallel in PARALLEL:
        keep(f"{parallel}_gradients", gradients(place, parallel=parallel))
        keep(f"{parallel}_recomputed", gradients(place, parallel=parallel, recompute=True))
        keep(f"{parallel}_steps", everything(train(out / f"{parallel}_steps", place, parallel=parallel)))
        keep(f"{parallel}_whole", everything(train(out / f"{parallel}_whole", place, 0.1, parallel=parallel)))
        train(out / f"{parallel}_parts", place, 0.1, parallel=parallel, steps=2)
        keep(f"{parallel}_parts", everything(train(out / f"{parallel}_parts", place, 0.1, parallel=parallel)))
        keep(f"{parallel}_from_one", everything(train(out / f"{parallel}_from_one", place, parallel=parallel)))


def real(place: Place, out: Path) -> None:
    """The tokenizer, as `wakedream train` runs it."""
    sys.path.insert(0, str(Path(__file__).parent.parent / "stages"))
    from conftest import small_run

    from wakedream.stages import skeleton, tokenizer

    skeleton.join = lambda device: join_again(place)
    for name, options in (("ddp", {}), ("fsdp", {"parallel": "fsdp", "recompute": True})):
        tokenizer.train_tokenizer(small_run(**options), out / "data", out / f"real_{name}", "debug")
    no_registers = replace(small_run().model, num_registers=0)
    with mock.patch.object(distributed, "_cpu_has_bf16", return_value=True):
        for parallel in PARALLEL:
            run = replace(small_run(parallel=parallel, precision="bf16"), model=no_registers)
            with types_in_layers() as seen:
                tokenizer.train_tokenizer(run, out / "data", out / f"bf16_{parallel}", "debug")
            (out / f"bf16_{parallel}" / f"types.{place.rank}").write_text(" ".join(sorted(map(str, seen))))


@contextlib.contextmanager
def types_in_layers():
    """The types that the layers' weights have while they compute."""
    seen, forward = set(), layers.SwiGLU.forward

    def looks(self, x):
        seen.add(self.up.weight.dtype)
        return forward(self, x)

    layers.SwiGLU.forward = looks
    try:
        yield seen
    finally:
        layers.SwiGLU.forward = forward


class join_again:  # noqa: N801 (stands for a function)
    """`join` for a process that has joined."""

    def __init__(self, place: Place):
        self.place = place

    def __enter__(self) -> Place:
        return self.place

    def __exit__(self, *_: object) -> None:
        pass


def save_on_a_full_disk(place: Place, out: Path) -> None:
    """The second process's."""
    from wakedream.training import checkpoint

    def full(tensors, file) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with mock.patch.object(checkpoint, "save_file", save_file if place.writes else full):
        try:
            train(out / "fsdp_full", place, parallel="fsdp", steps=4)
        except RunError as error:
            (out / f"full.{place.rank}").write_text(str(error))


def die_while_saving(place: Place, out: Path) -> None:
    """The second process is killed between its rows and the first one's rename."""
    from wakedream.training import checkpoint

    if not place.writes:
        checkpoint.save_file = lambda tensors, file: (save_file(tensors, file), os._exit(9))
    train(out / "fsdp_killed", place, parallel="fsdp", steps=4)


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder, device = Path(sys.argv[1]), sys.argv[2]
    with join(device) as here:
        work(here, folder)
        if device == "cpu":
            real(here, folder)
            save_on_a_full_disk(here, folder)
            warnings.warn("as all do", stacklevel=1)
            warnings.warn(f"of process {here.rank} alone", OwnWarning, stacklevel=1)
        (folder / f"done.{here.rank}").touch()
        if device == "cpu":
            train(folder / "fsdp_killed", here, parallel="fsdp", steps=2)
            die_while_saving(here, folder)
