"""The dream as an environment, one or many side by side: Gymnasium's faces of it."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from wakedream.agent.tasks import Task
from wakedream.data.actions import ActionComponent, ActionSpec
from wakedream.data.store import Store
from wakedream.errors import ConfigError, require
from wakedream.world.model import World
from wakedream.world.policy import Agent
from wakedream.world.rows import DreamRows, Judged
from wakedream.world.starts import Starts

require("gymnasium", "gym")

import gymnasium  # noqa: E402 (after the message that says how to get it)
from gymnasium import spaces  # noqa: E402
from gymnasium.vector import AutoresetMode, VectorEnv  # noqa: E402
from gymnasium.vector.utils import batch_space, iterate  # noqa: E402

FPS = 15


class DreamVectorEnv(VectorEnv):
    """`num_envs` dreams side by side, rows of one batch: each begins, ends and begins anew by itself.

        envs = wd.DreamVectorEnv(wd.Agent.from_pretrained("runs/imagination"), 64, data="data/crafter")
        frames, infos = envs.reset(seed=0)              # uint8 (64 h w c)
        frames, rewards, terminated, truncated, infos = envs.step(envs.action_space.sample())

    world           a wd.Agent, whose heads say the reward and whether the episode goes on (it ends by chance, as likely
                    as they say); or a wd.World, which knows neither: rewards are 0 and nothing terminates
    data            a data set: episodes begin after `context` frames of it, drawn anew each time; None: from nothing
    task            of the agent's; None: its first
    max_steps       until an episode is truncated
    sampling_steps  K, a power of two; precision, graph, compile: as dynamics.engine.DreamEngine has them

    The action space is that of the environment which the world was trained on. What a row dreams follows from its seed
    and its actions. An episode that has ended begins anew with the next step, whose action is not used there
    (gymnasium's AutoresetMode.NEXT_STEP). infos: `value` and `goes_on` by the agent's heads, `reward_known`.
    """

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]
        "render_modes": ["rgb_array"], "render_fps": FPS, "autoreset_mode": AutoresetMode.NEXT_STEP}

    def __init__(self, world: World | Agent, num_envs: int = 1, *, data: Store | Path | str | None = None,
                 context: int = 16, task: Task | None = None, max_steps: int = 1000, sampling_steps: int = 4,
                 render_mode: str | None = None, precision: str | None = None, graph: bool | None = None,
                 compile: bool = False):
        """ConfigError for a data set of another world, a task that the agent does not know, or a world without
        actions."""
        super().__init__()
        if render_mode not in (None, "rgb_array"):
            raise ConfigError(f"render_mode is {render_mode!r}: expected 'rgb_array' or None")
        for name, number in (("num_envs", num_envs), ("max_steps", max_steps), ("context", context)):
            if number < 1:
                raise ConfigError(f"{name} is {number}: expected at least 1")
        self.num_envs, self.max_steps, self.render_mode = num_envs, max_steps, render_mode
        self.dreams = DreamRows(world, num_envs, task=task, sampling_steps=sampling_steps, precision=precision,
                                graph=graph, compile=compile)
        self.world, self.agent = self.dreams.world, self.dreams.agent
        self.starts = None if data is None else Starts(self.world, data, context)
        config = self.world.tokenizer.config
        self.single_observation_space = spaces.Box(0, 255, (*config.frame_size, config.channels), np.uint8)
        self.single_action_space = space_of(self.world.dynamics.actions)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._random = [np.random.default_rng() for _ in range(num_envs)]
        self._steps, self._ended = np.zeros(num_envs, np.int64), np.ones(num_envs, bool)
        self._frames = np.zeros((num_envs, *config.frame_size, config.channels), np.uint8)

    @property
    def over(self) -> np.ndarray:
        """bool (num_envs): whose episode has ended, or has not begun."""
        return self._ended.copy()

    def reset(self, *, seed: int | Sequence[int | None] | None = None,  # type: ignore[override]
              options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """All episodes begin; seed: of row 0, counted on over the others, or one for each."""
        rows = range(self.num_envs)
        seeds = [seed + row for row in rows] if isinstance(seed, int) else seed or [None for _ in rows]
        if len(seeds) != self.num_envs:
            raise ValueError(f"expected a seed, or one for each of {self.num_envs} dreams, got {len(seeds)}")
        for row, one in enumerate(seeds):
            if one is not None:
                self._random[row] = np.random.default_rng(one)
        self._begin(np.arange(self.num_envs))
        return self._shown(), self._told(self._judged())

    def step(self, actions: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        return self.step_each(iterate(self.action_space, actions))

    def step_each(self, actions: Iterable[Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray,
                                                         dict[str, Any]]:
        """As `step`, with one action of `single_action_space` for each dream."""
        spec, goes = self.world.dynamics.actions, ~self._ended
        each = [_flatten(spec, action) for action in actions]
        taken = {c.name: torch.from_numpy(np.stack([one[c.name] for one in each])) for c in spec.components}
        self.dreams.step(taken, torch.from_numpy(goes).to(self.dreams.device))
        if not goes.all():
            self._begin(np.flatnonzero(~goes))
        judged, frames = self._judged(), self._shown()
        infos = self._told(judged)
        rewards, terminated = np.zeros(self.num_envs), np.zeros(self.num_envs, bool)
        self._steps += goes
        if judged is not None:
            rewards = np.where(goes, judged.reward.double().numpy(), 0.0)
            terminated = goes & (np.array([rng.random() for rng in self._random]) >= infos["goes_on"])
        truncated = (self._steps >= self.max_steps) & ~terminated
        self._ended = terminated | truncated
        return frames, rewards, terminated, truncated, infos

    def render(self) -> tuple[np.ndarray, ...] | None:  # type: ignore[override]
        """The last frames, uint8 (h w c) each."""
        return tuple(self._frames) if self.render_mode == "rgb_array" else None

    def _begin(self, chosen: np.ndarray) -> None:
        """The next episodes of these rows."""
        rows, random = torch.from_numpy(chosen), [self._random[row] for row in chosen]
        seeds = torch.tensor([int(rng.integers(2**62)) for rng in random])
        context = () if self.starts is None else self.starts.seen([self.starts.draw(rng) for rng in random])
        self.dreams.begin(rows, seeds, *context)
        self._steps[chosen], self._ended[chosen] = 0, False

    def _shown(self) -> np.ndarray:
        self._frames = self.dreams.pictures()
        return self._frames.copy()

    def _judged(self) -> Judged | None:
        return None if self.agent is None else self.dreams.judged().cpu()

    def _told(self, judged: Judged | None) -> dict[str, Any]:
        infos: dict[str, Any] = {"reward_known": np.full(self.num_envs, judged is not None)}
        if judged is not None:
            infos |= {"value": judged.value.numpy(), "goes_on": judged.goes_on.numpy()}
        return infos | {f"_{name}": np.ones(self.num_envs, bool) for name in infos}


class DreamEnv(gymnasium.Env):
    """One dream as a Gymnasium environment: DreamVectorEnv's row, options as there.

        env = wd.DreamEnv(wd.World.from_pretrained("runs/dynamics"))
        frame, info = env.reset(seed=0)
        frame, reward, terminated, truncated, info = env.step(env.action_space.sample())
    """

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]
        "render_modes": ["rgb_array"], "render_fps": FPS}

    def __init__(self, world: World | Agent, *, render_mode: str | None = None, **options: Any):
        self.dreams = DreamVectorEnv(world, 1, render_mode=render_mode, **options)
        self.render_mode = render_mode
        self.observation_space, self.action_space = (self.dreams.single_observation_space,
                                                     self.dreams.single_action_space)

    def reset(self, *, seed: int | None = None,
              options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        frames, infos = self.dreams.reset(seed=seed)
        return frames[0], _first(infos)

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """ResetNeeded before the first reset and after an end."""
        if self.dreams.over[0]:
            raise gymnasium.error.ResetNeeded("no episode is going on: call reset() first")
        frames, rewards, terminated, truncated, infos = self.dreams.step_each([action])
        return frames[0], float(rewards[0]), bool(terminated[0]), bool(truncated[0]), _first(infos)

    def render(self) -> np.ndarray | None:  # type: ignore[override]
        shown = self.dreams.render()
        return None if shown is None else shown[0]


def space_of(spec: ActionSpec) -> gymnasium.Space:
    """The Gymnasium space that `ActionSpec.from_space` makes the spec of; but Tuples become Dicts, and a component
    alone is a space of its own, whatever its name.

    ConfigError for a spec without components.
    """
    if not spec.components:
        raise ConfigError("the world knows no actions, so nothing can be done in it: wd.World.dream dreams on by "
                          "itself")
    if len(spec.components) == 1:
        return _space(spec.components[0])
    if all(c.kind == "categorical" and c.name == f"action/{i}" for i, c in enumerate(spec.components)):
        return spaces.MultiDiscrete([c.size for c in spec.components], start=[c.first for c in spec.components])
    tree: dict[str, Any] = {}
    for component in spec.components:
        *path, last = component.name.split("/")
        inner = tree
        for key in path:
            inner = inner.setdefault(key, {})
        inner[last] = _space(component)
    return _nested(tree)


def _flatten(spec: ActionSpec, action: Any) -> dict[str, np.ndarray]:
    """One action of `space_of(spec)` by component."""
    alone = len(spec.components) == 1
    return {c.name: c.encode(action) for c in spec.components} if alone else spec.flatten(action)


def _nested(tree: dict[str, Any]) -> gymnasium.Space:
    return spaces.Dict({key: _nested(inner) if isinstance(inner, dict) else inner for key, inner in tree.items()})


def _space(component: ActionComponent) -> gymnasium.Space:
    if component.kind == "categorical":
        return spaces.Discrete(component.size, start=component.first)
    if component.kind == "binary":
        return spaces.MultiBinary(component.size)
    low, high = (np.array(bounds, np.float32) for bounds in component.limits)
    return spaces.Box(low, high, dtype=np.float32)


def _first(infos: dict[str, Any]) -> dict[str, Any]:
    return {name: value[0].item() for name, value in infos.items() if not name.startswith("_")}
