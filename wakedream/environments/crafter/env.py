"""Crafter (Hafner, 2021) with Gymnasium's interface: 17 actions, 22 achievements, days and nights."""

import copy
from typing import Any

import gymnasium
import numpy as np
from crafter import constants

from wakedream.environments.crafter.engine import Simulator
from wakedream.environments.pixels import Size, both

TIME_LIMIT = 10_000


class CrafterEnv(gymnasium.Env):
    """Frames are uint8 (*size 3), height and width. Death terminates; `length` steps truncate. One seed, one story.

    info holds `extras` (daylight, 0 to 1, and what the picture counts: health, food, drink, energy and all that is
    carried, 0 to 9 each), `achievements` (how often each was reached) and `events` (which of them the last step has
    unlocked).
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012 (Gymnasium's own form)
    render_mode = "rgb_array"

    def __init__(self, size: int | Size = 64, length: int = TIME_LIMIT):
        size = both(size) or (64, 64)
        self.simulator = Simulator(size)
        self.length, self.steps = length, 0
        self.observation_space = gymnasium.spaces.Box(0, 255, (*size, 3), np.uint8)
        self.action_space = gymnasium.spaces.Discrete(len(constants.actions))
        self.frame = np.zeros((*size, 3), np.uint8)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self.steps = 0
        self.frame = self.simulator.begin(int(self.np_random.integers(2**31 - 1)) if seed is None else seed)
        return self.frame, self._info()

    def step(self, action: int | np.integer):
        self.steps += 1
        reward, dead = self.simulator.step(int(action))
        self.frame = self.simulator.render()
        return self.frame, reward, dead, not dead and self.steps >= self.length, self._info()

    def render(self) -> np.ndarray:
        return self.frame

    def become(self, other: "CrafterEnv") -> None:
        """Go on from where `other`, of the same size, is now: from here the same actions bring the same frames."""
        mine, its = self.simulator, other.simulator
        drawing = ("_world", "_textures", "_local_view", "_item_view", "_sem_view")  # stay, with what they cache
        memo: dict[int, Any] = {id(getattr(its, name)): getattr(mine, name) for name in drawing}
        mine.world.__dict__.update(copy.deepcopy(its.world.__dict__, memo))
        mine.__dict__.update(copy.deepcopy(its.__dict__, memo))
        self.steps, self.length, self.frame = other.steps, other.length, other.frame

    def _info(self) -> dict[str, Any]:
        player = self.simulator.player
        counts = {name: float(count) for name, count in player.inventory.items()}
        return {"extras": {"daylight": float(self.simulator.world.daylight), **counts},
                "achievements": dict(player.achievements),
                "events": {name: name in self.simulator.new for name in player.achievements}}
