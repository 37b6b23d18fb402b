"""CoinRun (Cobbe et al., Procgen) through envpool: every seed is a level of its own."""

from typing import Any

import gymnasium
import numpy as np

from wakedream.environments.pixels import AnySize, both, to_rgb
from wakedream.errors import require

ID = "CoinrunHard-v0"  # Procgen's default difficulty
RIGHT, JUMP_RIGHT, IDLE = 7, 8, 4
MOVES = (1, 2, 4, 5, 7, 8)  # left, jump left, idle, jump, right, jump right: the others do what one of these does
WANDERING = (0.02, 0.1, 0.3)  # chances of a varied episode's bursts of any move: 8 to 60 % of its frames


class CoinRunEnv(gymnasium.Env):
    """Frames are uint8 (64 64 3), or resized to `size`, height and width. The coin gives 10; it and death terminate.

    envpool shows the true last frame and only begins the next level at the step after; that step is never
    taken here, since each reset makes the level anew from its seed (a millisecond).
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 15}  # noqa: RUF012 (Gymnasium's own form)
    render_mode = "rgb_array"

    def __init__(self, size: AnySize = None):
        self.envpool = require("envpool", "coinrun")
        self.size = both(size)
        self.observation_space = gymnasium.spaces.Box(0, 255, (*(self.size or (64, 64)), 3), np.uint8)
        self.action_space = gymnasium.spaces.Discrete(15)
        self.frame = np.zeros(self.observation_space.shape, np.uint8)
        self.game: Any = None
        self.level, self.taken = 0, list[int]()  # of this episode

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        level = int(self.np_random.integers(2**31 - 1)) if seed is None else seed
        self.game = self.envpool.make(ID, env_type="gymnasium", num_envs=1, num_threads=1, seed=level,
                                      start_level=level, num_levels=1)
        frames, _ = self.game.reset()
        self.frame, self.level, self.taken = to_rgb(frames[0], self.size), level, []
        return self.frame, {"level": level}

    def step(self, action: int):
        frames, rewards, terminated, truncated, _ = self.game.step(np.array([action], np.int32))
        self.frame = to_rgb(frames[0], self.size)
        self.taken.append(int(action))
        return self.frame, float(rewards[0]), bool(terminated[0]), bool(truncated[0]), {}

    def render(self) -> np.ndarray:
        return self.frame

    def become(self, other: "CoinRunEnv") -> None:
        """Go on from where `other`, of the same size, is now: from here the same actions bring the same frames.

        envpool gives out no state: the level is played again, which it repeats to the pixel.
        """
        self.reset(seed=other.level)
        for action in list(other.taken):
            self.step(action)


class Runner:
    """Runs right, jumps in random bursts, now and then stands still; in bursts, does anything at all.

    Without the last, the data would hold one direction only.
    """

    wandering, moves = 0.02, tuple(range(15))

    def __init__(self, rng: np.random.Generator):
        self.info: dict[str, Any] = {"policy": "scripted"}
        self.rng, self.left, self.held = rng, 0, RIGHT

    def __call__(self, frame: np.ndarray) -> int:
        if self.left == 0:
            self.held = RIGHT
            kind = self.rng.random()
            if kind < 0.12 + self.wandering:
                self.left = int(self.rng.integers(4, 15))
                self.held = JUMP_RIGHT if kind < 0.12 else self.moves[self.rng.integers(len(self.moves))]
        self.left = max(self.left - 1, 0)
        return IDLE if self.rng.random() < 0.03 else self.held


class Wanderer(Runner):
    """The same, but much of it is any move, more in some episodes than in others: data in which all moves are known."""

    moves = MOVES

    def __init__(self, rng: np.random.Generator):
        super().__init__(rng)
        self.wandering = float(rng.choice(WANDERING))
        self.info = {"policy": "varied", "wandering": self.wandering}
