"""Competent play disturbed by bursts of random actions, so that a world model also sees what goes wrong."""

from typing import Any

import numpy as np

from wakedream.environments.crafter.engine import Simulator
from wakedream.environments.crafter.player import ACTION, CrafterPlayer

LEVELS = ((0.0, 0.35), (0.1, 0.3), (0.3, 0.25), (1.0, 0.1))  # share of noise, how often an episode has it
BURST = 8  # random steps in a row, on average
HOLD = 0.7  # chance that a random action goes on
WALKING = [ACTION[f"move_{way}"] for way in ("left", "right", "up", "down")]


class NoisyPlayer:
    """The scripted player; `epsilon`, drawn per episode, is the share of steps taken at random, in bursts."""

    def __init__(self, simulator: Simulator, rng: np.random.Generator, epsilon: float | None = None):
        levels, chances = zip(*LEVELS, strict=True)
        self.epsilon = float(rng.choice(levels, p=chances)) if epsilon is None else epsilon
        self.info: dict[str, Any] = {"policy": "scripted", "epsilon": self.epsilon}
        self.player, self.rng = CrafterPlayer(simulator), rng
        self.action, self.left = ACTION["noop"], 0

    def __call__(self, frame: np.ndarray) -> int:
        if self.left == 0 and self.rng.random() < self._start():
            self.left = 1 + int(self.rng.geometric(1 / BURST))
            self.action = self._draw()
        if self.left == 0:
            return self.player()
        self.left -= 1
        if self.rng.random() >= HOLD:
            self.action = self._draw()
        self.player.interrupted()
        return self.action

    def _start(self) -> float:
        """The chance of a burst that makes the share of random steps epsilon."""
        return 1.0 if self.epsilon == 1 else self.epsilon / ((1 - self.epsilon) * (BURST + 1))

    def _draw(self) -> int:
        """Walks and uses more often than the fifteen others, most of which do nothing."""
        kind = self.rng.random()
        if kind < 0.6:
            return int(self.rng.choice(WALKING))
        return ACTION["do"] if kind < 0.8 else int(self.rng.integers(len(ACTION)))
