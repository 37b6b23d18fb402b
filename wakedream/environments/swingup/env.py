"""Cart-pole swing-up, dm_control's `cartpole swingup`, with Gymnasium's interface: one continuous action."""

import math
from typing import Any

import gymnasium
import numpy as np

from wakedream.environments.pixels import Size, both
from wakedream.environments.swingup.scene import Scene

REPEAT = 4  # an action lasts so many of dm_control's steps, 0.04 seconds
TIME_LIMIT = 250  # steps: dm_control's ten seconds
UPRIGHT, HELD = 0.95, 25  # the cosine above which the pole stands (18 degrees); steps after which it is balanced


class SwingUpEnv(gymnasium.Env):
    """Frames are uint8 (*size 3), height and width. The action is the force on the cart, -1 to 1, of ten newtons.

    The reward of a step is the mean of dm_control's over REPEAT of its steps, 0 to 1: a return times REPEAT is one on
    dm_control's scale of 0 to 1000. TIME_LIMIT truncates, nothing terminates. info holds `events`: `balanced` at the
    frame with which the pole has stood for a second.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 25}  # noqa: RUF012 (Gymnasium's own form)
    render_mode = "rgb_array"

    def __init__(self, size: int | Size = 64):
        self.size = both(size) or (64, 64)
        self.scene = Scene(self.size)
        self.steps = self.stood = 0  # since the beginning; since the pole last lay
        self.observation_space = gymnasium.spaces.Box(0, 255, (*self.size, 3), np.uint8)
        self.action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
        self.frame = np.zeros((*self.size, 3), np.uint8)

    @property
    def state(self) -> tuple[float, float, float, float]:
        """Where the cart is, the pole's angle (0 upright, pi hanging), and their rates."""
        place, angle = self.scene.data.qpos.tolist()
        speed, spin = self.scene.data.qvel.tolist()
        return place, angle, speed, spin

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        """The pole hangs down, all but at rest."""
        super().reset(seed=seed)
        self.steps = self.stood = 0
        self.scene.place(np.array([0, math.pi]) + 0.01 * self.np_random.standard_normal(2),
                         0.01 * self.np_random.standard_normal(2))
        self.frame = self.scene.draw()
        return self.frame, {"events": {"balanced": False}}

    def step(self, action: np.ndarray):
        force, reward = float(np.ravel(action)[0]), 0.0  # the motor and the reward know the bounds
        for _ in range(REPEAT):
            self.scene.push(force)
            reward += reward_of(self.state, force) / REPEAT
        self.steps += 1
        self.stood = self.stood + 1 if math.cos(self.state[1]) > UPRIGHT else 0
        self.frame = self.scene.draw()
        return self.frame, reward, False, self.steps >= TIME_LIMIT, {"events": {"balanced": self.stood == HELD}}

    def render(self) -> np.ndarray:
        return self.frame

    def become(self, other: "SwingUpEnv") -> None:
        """Go on from where `other`, of the same size, is now: from here the same actions bring the same frames."""
        self.scene.become(other.scene)
        self.steps, self.stood, self.frame = other.steps, other.stood, other.frame

    def close(self) -> None:
        self.scene.close()


def reward_of(state: tuple[float, float, float, float], force: float) -> float:
    """dm_control's reward of `swingup` (suite/cartpole.py, Balance._get_reward): upright, in the middle, with little
    force, turning slowly. The last three alone take at most half, a fifth and half of it away."""
    place, angle, _, spin = state
    upright = (math.cos(angle) + 1) / 2
    centred = (1 + 0.1 ** ((place / 2) ** 2)) / 2  # its tolerance with a margin: a tenth is left there
    light = (4 + max(0.0, 1 - force ** 2)) / 5
    slow = (1 + 0.1 ** ((spin / 5) ** 2)) / 2
    return upright * centred * light * slow
