"""MiniGrid's DoorKey, the whole room seen from above: fetch the key, open the door, reach the goal."""

import copy
import math
from collections import deque
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
from minigrid.core.constants import DIR_TO_VEC
from minigrid.core.world_object import Door, Goal, Key
from minigrid.envs import DoorKeyEnv as Upstream

from wakedream.environments.bursts import Bursts, drawn
from wakedream.environments.pixels import Size, both, to_rgb

TIME_LIMIT = 100
LEFT, RIGHT, FORWARD, PICKUP, TOGGLE, ACTIONS = 0, 1, 2, 3, 5, 7
CHANGING = ("grid", "carrying", "agent_pos", "agent_dir", "step_count")  # what a step may change
LEVELS = ((0.0, 0.2), (0.6, 0.3), (0.85, 0.5))  # share of noise, how often an episode has it
Cell = tuple[int, int]  # column, row
Moment = tuple[Cell, int, bool, bool]  # where the player is, where it looks, whether it has the key, the door is open


class DoorKeyEnv(gymnasium.Env):
    """`cells` wide and high, walls included. Frames are uint8 (*size 3), height and width, without the cone of what the
    player sees. `goal` terminates and is rewarded by 1 - 0.9 * steps / TIME_LIMIT, which truncates.

    info holds `events`: at this frame the key was picked up, the door was opened, the goal was reached.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012 (Gymnasium's own form)
    render_mode = "rgb_array"

    def __init__(self, size: int | Size = 64, cells: int = 6):
        self.size = both(size) or (64, 64)
        self.game = _Blind(size=cells, max_steps=TIME_LIMIT)
        self.tile = math.lcm(cells, max(self.size)) // cells  # a pixel is the mean of a whole number of MiniGrid's
        self.drawn: dict[Any, np.ndarray] = {}
        self.observation_space = gymnasium.spaces.Box(0, 255, (*self.size, 3), np.uint8)
        self.action_space = gymnasium.spaces.Discrete(ACTIONS)
        self.frame = np.zeros((*self.size, 3), np.uint8)
        self.key: Any = None
        self.door: Any = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self.game.reset(seed=int(self.np_random.integers(2**31 - 1)) if seed is None else seed)
        self.drawn = {}
        self._find()
        return self._look(), {"events": {"key": False, "door": False, "goal": False}}

    def step(self, action: int | np.integer):
        carried, opened = self.game.carrying is not None, self.door.is_open
        _, reward, terminated, truncated, _ = self.game.step(int(action))
        events = {"key": not carried and self.game.carrying is not None, "door": not opened and self.door.is_open,
                  "goal": terminated}
        return self._look(), float(reward), terminated, truncated and not terminated, {"events": events}

    def render(self) -> np.ndarray:
        return self.frame

    def become(self, other: "DoorKeyEnv") -> None:
        """Go on from where `other`, of the same size, is now: from here the same actions bring the same frames."""
        vars(self.game).update(copy.deepcopy({name: getattr(other.game, name) for name in CHANGING}))
        self.drawn = {}
        self._find()
        self.frame = other.frame

    def _find(self) -> None:
        things = [thing for thing in (*self.game.grid.grid, self.game.carrying) if thing is not None]
        self.key = next(thing for thing in things if isinstance(thing, Key))
        self.door = next(thing for thing in things if isinstance(thing, Door))

    def _look(self) -> np.ndarray:
        """The picture, drawn once for all moments of an episode that look alike: MiniGrid takes a third of a
        millisecond."""
        game: Any = self.game
        shown = (tuple(game.agent_pos), game.agent_dir, tuple(self.key.cur_pos), self.door.encode())
        if shown not in self.drawn:
            whole = game.grid.render(self.tile, game.agent_pos, game.agent_dir)
            self.drawn[shown] = to_rgb(whole, self.size)
        self.frame = self.drawn[shown].copy()
        return self.frame


class _Blind(Upstream):
    """Does not work out what the player sees: most of the time that a step takes."""

    def gen_obs(self) -> dict[str, Any]:
        return {}


class DoorKeyPlayer:
    """Takes a shortest way to the goal, except for bursts of random actions. `epsilon`, drawn per episode, is their
    share."""

    def __init__(self, env: DoorKeyEnv, rng: np.random.Generator, epsilon: float | None = None):
        self.epsilon = drawn(LEVELS, rng) if epsilon is None else epsilon
        self.info: dict[str, Any] = {"policy": "scripted", "epsilon": self.epsilon}
        self.env, self.rng, self.bursts = env, rng, Bursts(self.epsilon, rng)
        self.way: list[int] = []  # the actions to come, the last first

    def __call__(self, frame: np.ndarray) -> int:
        self.bursts.begins()
        if self.bursts.lasts():
            self.way = []
            return int(self.rng.integers(ACTIONS))
        if not self.way:
            self.way = shortest(self.env)[::-1]
        return self.way.pop()


def shortest(env: DoorKeyEnv) -> list[int]:
    """The actions of a shortest way to the goal, by breadth first."""
    game = env.game
    column, row = game.agent_pos
    start = ((int(column), int(row)), int(game.agent_dir), game.carrying is not None, bool(env.door.is_open))
    came: dict[Moment, tuple[Moment, int] | None] = {start: None}
    waiting = deque[Moment]([start])
    while waiting:
        moment = waiting.popleft()
        if isinstance(game.grid.get(*moment[0]), Goal):
            return _way(came, moment)
        for action, after in _steps(env, moment):
            if after not in came:
                came[after] = (moment, action)
                waiting.append(after)
    raise AssertionError("the goal can always be reached")


def _steps(env: DoorKeyEnv, moment: Moment) -> Iterator[tuple[int, Moment]]:
    """What can be done that changes something and what it leads to; as MiniGrid has it, but the key is kept and the
    door not closed."""
    cell, facing, has_key, is_open = moment
    yield LEFT, (cell, (facing - 1) % 4, has_key, is_open)
    yield RIGHT, (cell, (facing + 1) % 4, has_key, is_open)
    column, row = (int(at + step) for at, step in zip(cell, DIR_TO_VEC[facing], strict=True))
    ahead: Any = env.game.grid.get(column, row)
    if ahead is env.key and not has_key:
        yield PICKUP, (cell, facing, True, is_open)
    elif ahead is env.door and not is_open:
        if has_key or not env.door.is_locked:
            yield TOGGLE, (cell, facing, has_key, True)
    elif ahead is None or ahead in (env.key, env.door) or isinstance(ahead, Goal):
        yield FORWARD, ((column, row), facing, has_key, is_open)


def _way(came: dict[Moment, tuple[Moment, int] | None], moment: Moment) -> list[int]:
    actions = []
    while before := came[moment]:
        moment, action = before
        actions.append(action)
    return actions[::-1]
