"""Dreams as rows of one batch: each begins, goes on and is put aside by itself. What is dreamed, seen and judged."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from wakedream.agent.agent import TOKENS
from wakedream.agent.tasks import Task, numbers
from wakedream.data.trajectory import Actions, Trajectory
from wakedream.dynamics.engine import DreamEngine, Step
from wakedream.errors import ConfigError
from wakedream.model.given import pixels_of
from wakedream.notation import Latents
from wakedream.world.dream import WorldState, of_pictures
from wakedream.world.model import World
from wakedream.world.policy import Agent


@dataclass(frozen=True)
class Judged:
    """Of frames, by the agent's heads: the reward that arrived, the value of what follows, whether it goes on."""

    reward: Float[Tensor, " b"]
    value: Float[Tensor, " b"]
    goes_on: Float[Tensor, " b"]

    def cpu(self) -> "Judged":
        return Judged(self.reward.cpu(), self.value.cpu(), self.goes_on.cpu())


class DreamRows:
    """`rows` dreams of a world, or of an agent's world, whose heads then judge and whose policy may act.

    After `begin` and `step`, `latents` (b l e) and `hidden` (b w; without an agent (b 0)) are those of the rows' last
    frames.
    """

    def __init__(self, world: World | Agent, rows: int, *, task: Task | None = None, sampling_steps: int = 4,
                 **options: Any):
        """task: of the agent's, of all rows or of each; options: as DreamEngine's. ConfigError for a task that nobody
        knows."""
        self.agent = world.model if isinstance(world, Agent) else None
        self.world = world.world if isinstance(world, Agent) else world
        if task is not None and self.agent is None:
            raise ConfigError("a task is for agents, whose heads say what is a reward: give a wd.Agent, or no task")
        heads: dict[str, Any] = {}
        if self.agent is not None:
            tasks = self.agent.config.tasks
            with torch.no_grad():
                tokens = self.agent.tokens_of(numbers(tasks, task or tasks[0], rows).to(self.world.device))
            heads = {"tokens": {TOKENS: tokens}, "keep": self.agent.keep}
        self.engine = DreamEngine(self.world.dynamics, rows, sampling_steps=sampling_steps, **options, **heads)
        options["precision"] = of_pictures(options.get("precision"))
        self.stream = self.world.tokenizer.stream(rows, **options)
        config = self.world.dynamics.config
        self.latents = torch.zeros(rows, config.num_latents, config.latent_dim, device=self.device)
        width = 0 if self.agent is None else self.agent.policy.width
        self.hidden = torch.zeros(rows, width, device=self.device)

    @property
    def device(self) -> torch.device:
        return self.engine.device

    @torch.no_grad()
    def begin(self, rows: Int[Tensor, " n"], seeds: Int[Tensor, " n"], latents: Latents | None = None,
              trajectory: Trajectory | None = None, *, lead: int = 1) -> None:
        """These rows begin anew, after a context (n t l e), of which the decoder is shown the last `lead` frames; or
        from nothing, with a first frame that is dreamed."""
        rows = rows.to(self.device)
        self.engine.reset(rows, seeds)
        active = torch.zeros(self.engine.rows, dtype=torch.bool, device=self.device)
        active[rows] = True
        self.stream.reset(active)
        if latents is None:
            self._keep(self.engine.step(active=active), active)
            return
        outputs = self.engine.observe(latents, trajectory, rows)
        for frame in latents[:, -lead:-1].unbind(1):
            self.latents[rows] = frame.to(self.latents)
            self.stream.picture(self.latents, active)
        self.latents[rows] = latents[:, -1].to(self.latents)
        if self.agent is not None:
            self.hidden[rows] = self.agent.pooled({name: out[:, -1] for name, out in outputs.items()})

    @torch.no_grad()
    def step(self, actions: Actions, active: Bool[Tensor, " b"]) -> None:
        """The next frames of the rows that are active, after these actions (b ...) by component."""
        active = active.to(self.device)
        self._keep(self.engine.step(actions, active), active)

    @torch.no_grad()
    def pictures(self, active: Bool[Tensor, " b"] | None = None) -> np.ndarray:
        """The last frames as uint8 (b h w c), each once; what it holds for rows that are not active means nothing."""
        return pixels_of(self.stream.picture(self.latents, active)).permute(0, 2, 3, 1).cpu().numpy()

    @torch.no_grad()
    def judged(self) -> Judged:
        """The last frames. With an agent."""
        assert self.agent is not None, "a world alone judges nothing"
        return Judged(*(read(self.hidden) for read in (self.agent.reward_at, self.agent.value_at,
                                                       self.agent.goes_on_at)))

    @torch.no_grad()
    def chosen(self) -> Actions:
        """What the agent would do after the last frames; its chances follow from the rows' seeds."""
        assert self.agent is not None, "a world alone does nothing"
        return self.agent.choose(self.hidden, self.engine.seeds, self.engine.frames)

    def state(self, row: int) -> tuple[WorldState, Tensor, Tensor]:
        """Where the row stands: `load` goes on there, exactly."""
        rows = torch.tensor([row], device=self.device)
        return (WorldState(self.engine.state(rows), self.stream.state(rows)), self.latents[row].clone(),
                self.hidden[row].clone())

    def load(self, row: int, state: tuple[WorldState, Tensor, Tensor]) -> None:
        rows, (world, latents, hidden) = torch.tensor([row], device=self.device), state
        self.engine.load(world.dream, rows)
        self.stream.load(world.stream, rows)
        self.latents[row], self.hidden[row] = latents, hidden

    def _keep(self, step: Step, active: Tensor) -> None:
        """Of the rows that are active; nothing here waits for the device."""
        self.latents = torch.where(active[:, None, None], step.latents, self.latents)
        if self.agent is not None:
            self.hidden = torch.where(active[:, None], self.agent.pooled(step.outputs), self.hidden)
