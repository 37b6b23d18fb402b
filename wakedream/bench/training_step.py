"""What `wakedream train` repeats, built as it builds it, with batches that are already on the device.

place: of this process, which has batches of its own; world_size 1 where it trains alone.
"""

from dataclasses import replace
from typing import Any

import torch

from wakedream.agent.agent import AgentModel
from wakedream.agent.batches import Contexts
from wakedream.agent.cloning import CloningObjective
from wakedream.agent.imagination import ImaginationObjective
from wakedream.bench.synthetic import GAMEPAD, Batches, random_clip, random_contexts, random_latents, random_played
from wakedream.dynamics.dynamics import Dynamics
from wakedream.dynamics.objective import DynamicsObjective
from wakedream.presets.agent import agent_preset, imagination_preset
from wakedream.presets.dynamics import dynamics_preset
from wakedream.stages.config import AgentRun, DynamicsRun, TokenizerRun
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


def training_step(run: TokenizerRun, place: Place) -> tuple[Stepper, Tokenizer]:
    """One optimizer step: masks, losses, balance, backward, clipping, optimizers, averaged weights; and the model."""
    torch.manual_seed(run.train.seed)
    drawn = clips(run, place.device)
    behind = None if run.objective.moving_weight == 1 else next(drawn).video[0, 0].float() / 255
    objective = TokenizerObjective(Tokenizer(run.model), run.objective, background=behind)
    return _stepper(objective, drawn, run, place), objective.model


def dynamics_step(run: DynamicsRun, place: Place) -> tuple[Stepper, Dynamics]:
    """The same of a dynamics model: without bootstrap rows until its `state.step` is that from which there are some."""
    torch.manual_seed(run.train.seed)
    with place.device:  # a CPU would take half a minute to draw the weights of `paper`
        objective = DynamicsObjective(Dynamics(run.model, GAMEPAD), run.objective, run.loader.batch_size)
    batches = Batches([random_latents(run.model, run.loader, place.device) for _ in range(DISTINCT)])
    return _stepper(objective, batches, run, place), objective.model


def agent_step(world: str, run: AgentRun, place: Place) -> tuple[Stepper, AgentModel]:
    """The same of an agent that is cloned, with bootstrap rows, beside a dynamics model that goes on learning."""
    torch.manual_seed(run.train.seed)
    agent = AgentModel(run.model, Dynamics(dynamics_preset(world).model, GAMEPAD))
    loader = run.loader
    objective = CloningObjective(agent, run.objective, loader.batch_size, loader.num_relevant)
    batches = Batches([random_played(agent.dynamics.config, loader, place.device) for _ in range(DISTINCT)])
    return _stepper(objective, batches, run, place), agent


def imagination_step(world: str, preset: str, rollouts: int, sampling_steps: int,
                     place: Place) -> tuple[Stepper, AgentModel, Contexts]:
    """The same of an agent in its dream, value and policy: beside a dynamics model that can take larger steps."""
    run = imagination_preset(preset)
    torch.manual_seed(run.train.seed)
    dynamics = Dynamics(dynamics_preset(world).model, GAMEPAD)
    dynamics.shortcut.fill_(True)
    agent = AgentModel(agent_preset(preset).model, dynamics)
    drawn = [random_contexts(dynamics.config, rollouts, run.loader.length, place.device) for _ in range(DISTINCT)]
    config = replace(run.objective, sampling_steps=sampling_steps, value_first=0)
    objective = ImaginationObjective(agent, config, rollouts, starts=0, mean_over_ranks=place.mean)
    return _stepper(objective, Batches(drawn), run, place), agent, drawn[0]


def _stepper(objective: Any, batches: Batches, run: Any, place: Place) -> Stepper:
    state = begin(objective, lambda model: build_optimizers(model, run.optim), batches, run.train, place)
    return Stepper(wrap(objective, run.train, place), state, run.train)
