"""What two processes do for test_dynamics_ranks.py, with RANK and WORLD_SIZE set; the argument is a folder."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import ranks
import torch
from safetensors.torch import save_file
from torch import Tensor

from wakedream.data.actions import ActionComponent, ActionSpec
from wakedream.data.trajectory import Trajectory
from wakedream.dynamics import forcing, objective
from wakedream.dynamics.clip import LatentClip
from wakedream.dynamics.config import DynamicsConfig, DynamicsObjectiveConfig
from wakedream.dynamics.dynamics import Dynamics
from wakedream.dynamics.objective import DynamicsObjective
from wakedream.dynamics.shortcut import draw_bootstrap, draw_flow, noised
from wakedream.training.distributed import Place, join, wrap
from wakedream.training.loop import begin
from wakedream.training.shards import whole

ROWS, FRAMES = 8, 6
PHASES = {"flow": 0, "bootstrap": 5}  # the step whose gradients are taken; bootstrap rows begin with the fifth
TINY = DynamicsConfig(num_latents=3, latent_dim=4, dim=16, depth=2, heads=2, mlp_dim=24, num_registers=1,
                      pattern=("space", "time"), window=4, finest_steps=8)
SPEC = ActionSpec((ActionComponent("move", "categorical", 5),
                   ActionComponent("mouse", "continuous", 2, low=(-1, -1), high=(1, 1))))


def made() -> DynamicsObjective:
    """The last layer, which begins as zeros, is drawn: else no other layer would have a gradient."""
    torch.manual_seed(0)
    dynamics = Dynamics(TINY, SPEC)
    torch.nn.init.normal_(dynamics.to_latent.weight)
    return DynamicsObjective(dynamics, DynamicsObjectiveConfig(bootstrap_from=PHASES["bootstrap"]), ROWS)


def share(tensor: Tensor, place: Place) -> Tensor:
    """This process's rows of what one process would have."""
    return tensor.chunk(place.world_size)[place.rank]


def clip(place: Place) -> LatentClip:
    """Some rows of images, some of two clips, some of one; some frames without action."""
    torch.manual_seed(1)
    segments = torch.tensor([[0, 1, 2, 3, 4, 5], [0, 0, 0, 1, 1, 1], [0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]])
    parts = (torch.rand(ROWS, FRAMES, 3, 4) * 2 - 1, torch.randint(5, (ROWS, FRAMES)), torch.randn(ROWS, FRAMES, 2),
             torch.rand(ROWS, FRAMES) < 0.7, segments.repeat(2, 1))
    latents, move, mouse, has_action, segments = (share(part, place) for part in parts)
    return LatentClip(latents, Trajectory.of_actions({"move": move, "mouse": mouse}, has_action), segments)


@contextlib.contextmanager
def same_noise(place: Place) -> Iterator[None]:
    """As if one process had drawn the noise of all rows. Levels and steps are those of any row: a loss is a mean over
    the frames of its kind, and all processes have equally many of each."""
    noise = torch.randn(ROWS, FRAMES, 3, 4, generator=torch.Generator().manual_seed(2))

    def draw(way):
        def drawn(batch: int, *rest):
            torch.manual_seed(3)
            first = [part[:1] if isinstance(part, Tensor) else part for part in rest]
            return tuple(numbers.repeat(batch, 1) for numbers in way(1, *first))

        return drawn

    def rows(batch: int, count: int, *_):
        return torch.arange(count) * 4 + 1 if count else None  # the second row of every four

    with mock.patch.multiple(forcing, draw_flow=draw(draw_flow), draw_bootstrap=draw(draw_bootstrap),
                             noised=lambda clean, _, signal: noised(clean, share(noise, place), signal)), \
         mock.patch.object(objective, "bootstrap_rows", rows):
        yield


def gradients(place: Place, phase: str, parallel: str = "ddp", own_noise: bool = False,
              recompute: bool = False) -> dict[str, Tensor]:
    """Of one batch; those of all processes together."""
    options = ranks.config(parallel=parallel, recompute=recompute)
    state = begin(made(), ranks.optimizers, ranks.Batches(place), options, place)
    forward = wrap(state.objective, options, place)
    state.objective.prepare(PHASES[phase])
    torch.manual_seed(10 + place.rank)
    with contextlib.nullcontext() if own_noise else same_noise(place):
        losses = forward(clip(place))
    assert ("bootstrap" in losses) == (phase == "bootstrap"), losses
    losses["shortcut"].backward()
    return {name: whole(weight.grad) for name, weight in state.objective.model.named_parameters()}


def real(place: Place, out: Path) -> dict[str, dict[str, Tensor]]:
    """Stage 2 as `wakedream train` runs it; all that was trained, by way of sharing it."""
    sys.path.insert(0, str(Path(__file__).parent.parent / "stages"))
    from conftest import small_dynamics

    from wakedream.stages import dynamics, skeleton

    states, fit = [], skeleton.fit
    skeleton.join = lambda device: ranks.join_again(place)
    skeleton.fit = lambda *given, **options: states.append(fit(*given, **options)) or states[-1]
    for parallel in ranks.PARALLEL:
        run = small_dynamics(out / "tokenizer", parallel=parallel, recompute=parallel == "fsdp")
        dynamics.train_dynamics(run, out / "data", out / f"real_{parallel}", "debug")
    return {parallel: ranks.everything(state) for parallel, state in zip(ranks.PARALLEL, states, strict=True)}


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    with join("cpu") as here:
        results = real(here, folder)
        for way in ranks.PARALLEL:
            for name in PHASES:
                results[f"{way}_{name}"] = gradients(here, name, way)
                results[f"{way}_{name}_recomputed"] = gradients(here, name, way, recompute=True)
        results["ddp_own_noise"] = gradients(here, "bootstrap", own_noise=True)
        for name, tensors in results.items():
            save_file(tensors, folder / f"{name}.{here.rank}.safetensors")
        (folder / f"done.{here.rank}").touch()
