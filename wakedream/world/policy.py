"""An agent that acts: pictures in, actions out, frame by frame, with a memory of its own."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from wakedream.agent.agent import TOKENS, AgentModel
from wakedream.agent.tasks import Task, numbers
from wakedream.data.actions import ActionSpec, action_of, in_words
from wakedream.data.trajectory import Actions, Trajectory
from wakedream.dynamics.engine import DreamEngine
from wakedream.dynamics.noise import row_seeds
from wakedream.errors import ConfigError
from wakedream.model.given import Given, frames_of
from wakedream.model.pretrained import Pretrained, refuse_foreign
from wakedream.tokenizer.tokenizer import Tokenizer
from wakedream.world.model import TOKENIZER, World, mark, tokenizer_of


class Agent:
    """A trained agent and its tokenizer, `rows` of it side by side.

        agent = wd.Agent.from_pretrained("runs/imagination")
        actions = agent.act(frames)             # frames (b c h w), one of each row, to {"action": int64 (b)}
        actions = agent.act(frames, task="door")        # from now on: one of agent.tasks, or a list of one for each row
        agent.reset(torch.tensor([True]))       # these rows begin a new episode with their next frame

    It remembers what it saw and did since: as its dynamics model does, up to the window.
    """

    def __init__(self, tokenizer: Tokenizer, model: AgentModel):
        self.tokenizer, self.model = tokenizer, model
        self._player: Player | None = None

    @classmethod
    def from_pretrained(cls, path: str | Path) -> "Agent":
        """Of an agent's run folder (cloned, or after imagination), of what `save_pretrained` wrote, or of a world in
        the box, by its name."""
        path = Path(path)
        model = AgentModel.from_pretrained(path)
        return cls(Tokenizer.from_pretrained(tokenizer_of(path)), model)

    def save_pretrained(self, folder: str | Path, precision: str | None = None) -> None:
        """Write folder/tokenizer and folder/agent, weights folders each; precision: as World.save_pretrained."""
        folder = Path(folder)
        refuse_foreign(folder, "policy")
        tokenizer, model = self.tokenizer.rounded(precision), self.model.rounded(precision)
        if precision is not None:
            mark(tokenizer, model.dynamics)
        parts: dict[str, Pretrained] = {TOKENIZER: tokenizer, "agent": model}
        for name, part in parts.items():
            part.save_within(folder / name, precision)

    @property
    def world(self) -> World:
        """What it dreams in: its dynamics model as it is now, which went on learning while the agent was cloned."""
        return World(self.tokenizer, self.model.dynamics)

    @property
    def device(self) -> torch.device:
        return self.model.tokens.device

    @property
    def tasks(self) -> tuple[str, ...]:
        """What it can be told to do; the first is what it does untold."""
        return self.model.config.tasks

    def to(self, device: torch.device | str) -> "Agent":
        self.tokenizer.to(device)
        self.model.to(device)
        self._player = None
        return self

    def act(self, frames: Given, *, task: Task | None = None, greedy: bool = False) -> Actions:
        """What to do at these frames, uint8 or float in [0, 1], (b c h w): by component, on the CPU. The number of
        rows is that of the first call. task: as Player.prompt; None: as before."""
        frames = frames_of(frames)
        if self._player is None:
            self._player = Player(self, len(frames))
        if task is not None:
            self._player.prompt(task)
        return self._player.act(frames, greedy=greedy)

    def reset(self, rows: Bool[Tensor, " b"] | None = None) -> None:
        """These rows (all) forget everything."""
        if self._player is not None:
            self._player.reset(rows)

    def player(self, rows: int, *, seed: int | None = None) -> "Player":
        """Another memory of so many rows, which shares the weights."""
        return Player(self, rows, seed=seed)

    def player_in(self, space: Any, rows: int = 1, *, greedy: bool = False, seed: int = 0) -> "EnvironmentPlayer":
        """One for `rows` environments with this Gymnasium action space."""
        return EnvironmentPlayer(self, rows, space, greedy=greedy, seed=seed)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.tokenizer!r}, {self.model!r})"


class Player:
    """The memory of `rows` agents: latents of the frames seen, actions taken. See Agent.act."""

    def __init__(self, agent: Agent, rows: int, *, seed: int | None = None):
        model = self.model = agent.model
        self.stream = agent.tokenizer.stream(rows)
        self.engine = DreamEngine(model.dynamics, rows, tokens={TOKENS: model.tokens}, keep=model.keep)
        self.fresh = torch.ones(rows, dtype=torch.bool)
        self._frame = (agent.tokenizer.config.channels, *agent.tokenizer.config.frame_size)
        self._seed, self._begun = int(torch.randint(2**62, ())) if seed is None else seed, 0
        self._seeds = torch.zeros(rows, dtype=torch.int64, device=agent.device)
        self.reset()
        self._begun = 0  # rows that `reset` begins before their first frame are the first
        self._last = {c.name: torch.from_numpy(c.zeros(rows)) for c in model.dynamics.actions.components}
        self.prompt(agent.tasks[0])

    @torch.no_grad()
    def prompt(self, task: Task) -> None:
        """What to do from the next frame on, over the ends of episodes too: a task for all rows, or one for each.

        ConfigError for one that the agent does not know.
        """
        told = numbers(self.model.config.tasks, task, len(self.fresh))
        self.engine.tell({TOKENS: self.model.tokens_of(told.to(self.engine.device))})

    def act(self, frames: Given, *, greedy: bool = False) -> Actions:
        return self.take(self.look(frames), greedy=greedy)

    @torch.no_grad()
    def look(self, frames: Given) -> Float[Tensor, "b w"]:
        """What the agent reads at these frames, which the actions taken last led into."""
        frames = frames_of(frames)
        if tuple(frames.shape) != (len(self.fresh), *self._frame):
            expected = ", ".join(map(str, (len(self.fresh), *self._frame)))
            raise ValueError(f"expected frames ({expected}), got {tuple(frames.shape)}")
        latents = self.stream.encode(frames)
        led = Trajectory.of_actions({name: value.unsqueeze(1) for name, value in self._last.items()},
                                    ~self.fresh.unsqueeze(1))
        out = self.engine.observe(latents.float().unsqueeze(1), led)
        self.fresh[:] = False
        return self.model.pooled({name: one[:, 0] for name, one in out.items()})

    @torch.no_grad()
    def take(self, hidden: Float[Tensor, "b w"], *, greedy: bool = False) -> Actions:
        """The actions that follow it, on the CPU."""
        taken = self.model.choose(hidden, self._seeds, self.engine.frames, greedy=greedy)
        self._last = {name: value.cpu() for name, value in taken.items()}
        return dict(self._last)

    def reset(self, rows: Bool[Tensor, " b"] | None = None) -> None:
        """Episodes begin. Each has a seed of its own, by its number: what chance does in it hangs on neither the
        number of rows nor the length of those before."""
        chosen = torch.ones_like(self.fresh) if rows is None else torch.as_tensor(rows, dtype=torch.bool).cpu()
        numbers = chosen.nonzero().flatten()
        if not len(numbers):
            return
        self.stream.reset(chosen.to(self.engine.device))
        seeds = row_seeds(self._seed, self._begun + len(numbers))[self._begun:]
        self._begun += len(numbers)
        self._seeds[numbers.to(self._seeds.device)] = seeds.to(self._seeds.device)
        self.engine.reset(numbers, seeds)
        self.fresh |= chosen


class EnvironmentPlayer:
    """Acts in `rows` environments of one action space: uint8 (n h w c) to actions of that space."""

    def __init__(self, agent: Agent, rows: int, space: Any, *, greedy: bool = False, seed: int = 0):
        """ConfigError where the agent's actions are not those of the space, by kind and size; names may differ."""
        own, theirs = agent.model.dynamics.actions, ActionSpec.from_space(space)
        names = own.names_in(theirs)
        if names is None:
            raise ConfigError(f"the environment's actions are {in_words(theirs)}; the agent knows {in_words(own)}: "
                              "give the environment that its data was recorded from, or one with the same actions")
        self.names = names
        self.player, self.space, self.greedy = agent.player(rows, seed=seed), space, greedy

    def prompt(self, task: Task) -> None:
        """See Player.prompt."""
        self.player.prompt(task)

    def reset(self, rows: np.ndarray) -> None:
        self.player.reset(torch.from_numpy(rows))

    def act(self, frames: np.ndarray) -> list[Any]:
        taken = self.player.act(torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2))),
                                greedy=self.greedy)
        return [action_of(self.space, {self.names[name]: value[i].numpy() for name, value in taken.items()})
                for i in range(len(frames))]
