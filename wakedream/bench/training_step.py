"""What `wakedream train` repeats, built as it builds it, with batches that are already on the device."""

from dataclasses import replace

import torch

from wakedream.agent.agent import AgentModel
from wakedream.agent.batches import Contexts
from wakedream.agent.imagination import ImaginationObjective
from wakedream.bench.synthetic import GAMEPAD, Batches, random_clip, random_contexts, random_latents
from wakedream.dynamics.dynamics import Dynamics
from wakedream.dynamics.objective import DynamicsObjective
from wakedream.presets.agent import agent_preset, imagination_preset
from wakedream.presets.dynamics import dynamics_preset
from wakedream.stages.config import DynamicsRun, TokenizerRun
from wakedream.tokenizer.objective import TokenizerObjective
from wakedream.tokenizer.tokenizer import Tokenizer
from wakedream.training.distributed import Place, wrap
from wakedream.training.loop import begin
from wakedream.training.optim import build_optimizers
from wakedream.training.stepper import Stepper

DISTINCT = 4  # clips


def clips(run: TokenizerRun, device: torch.device) -> Batches:
    model = run.model
    shape = (run.loader.batch_size, run.loader.length, model.channels, model.height, model.width)
    return Batches([random_clip(shape, device) for _ in range(DISTINCT)])


def training_step(run: TokenizerRun, device: torch.device) -> tuple[Stepper, Tokenizer]:
    """One optimizer step: masks, losses, balance, backward, clipping, optimizers, averaged weights; and the model."""
    torch.manual_seed(run.train.seed)
    drawn = clips(run, device)
    behind = None if run.objective.moving_weight == 1 else next(drawn).video[0, 0].float() / 255
    place, objective = Place(device), TokenizerObjective(Tokenizer(run.model), run.objective, background=behind)
    state = begin(objective, lambda model: build_optimizers(model, run.optim), drawn, run.train, place)
    return Stepper(wrap(objective, run.train, place), state, run.train), objective.model


def dynamics_step(run: DynamicsRun, device: torch.device) -> tuple[Stepper, Dynamics]:
    """The same of a dynamics model: without bootstrap rows until its `state.step` is that from which there are some."""
    torch.manual_seed(run.train.seed)
    place = Place(device)
    objective = DynamicsObjective(Dynamics(run.model, GAMEPAD), run.objective, run.loader.batch_size)
    batches = Batches([random_latents(run.model, run.loader, device) for _ in range(DISTINCT)])
    state = begin(objective, lambda model: build_optimizers(model, run.optim), batches, run.train, place)
    return Stepper(wrap(objective, run.train, place), state, run.train), objective.model


def imagination_step(world: str, preset: str, rollouts: int, sampling_steps: int,
                     device: torch.device) -> tuple[Stepper, AgentModel, Contexts]:
    """The same of an agent in its dream, value and policy: beside a dynamics model that can take larger steps."""
    run = imagination_preset(preset)
    torch.manual_seed(run.train.seed)
    dynamics = Dynamics(dynamics_preset(world).model, GAMEPAD)
    dynamics.shortcut.fill_(True)
    place, agent = Place(device), AgentModel(agent_preset(preset).model, dynamics)
    drawn = [random_contexts(dynamics.config, rollouts, run.loader.length, device) for _ in range(DISTINCT)]
    config = replace(run.objective, sampling_steps=sampling_steps, value_first=0)
    objective = ImaginationObjective(agent, config, rollouts, starts=0)
    state = begin(objective, lambda model: build_optimizers(model, run.optim), Batches(drawn), run.train, place)
    return Stepper(wrap(objective, run.train, place), state, run.train), agent, drawn[0]
