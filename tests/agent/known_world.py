"""The world of conftest.py as a Gymnasium environment."""

import os

import gymnasium
import numpy as np

REWARDED, FATAL, FRAMES = 2, 3, 24  # moves; frames of an episode
BROKEN = 666  # the seed of an episode that fails at its first step
LEVELS = 40 + 60 * np.arange(4, dtype=np.uint8)


class KnownEnv(gymnasium.Env):
    """Frames of one colour, that of the move that led into them. Move 2 is rewarded by 1; after move 3 the episode is
    over in one of two cases, for good."""

    def __init__(self, render_mode=None):
        self.render_mode = render_mode
        self.action_space = gymnasium.spaces.Discrete(4)
        self.observation_space = gymnasium.spaces.Box(0, 255, (16, 16, 3), np.uint8)

    def close(self):
        if log := os.environ.get("KNOWN_CLOSED"):
            with open(log, "a") as file:
                file.write("closed\n")

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.frames = -1 if seed == BROKEN else 1
        return np.full((16, 16, 3), LEVELS[0]), {}

    def step(self, action):
        if self.frames < 0:
            raise RuntimeError("it broke")
        self.frames += 1
        ended = action == FATAL and bool(self.np_random.random() < 0.5)
        return (np.full((16, 16, 3), LEVELS[action]), float(action == REWARDED), ended,
                self.frames == FRAMES and not ended, {})


gymnasium.register("Known-v0", KnownEnv)
