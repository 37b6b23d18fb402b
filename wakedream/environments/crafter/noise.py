"""Competent play disturbed by bursts of random actions, so that a world model also sees what goes wrong."""

from typing import Any

import numpy as np

from wakedream.environments.bursts import BURST, Bursts, drawn
from wakedream.environments.crafter.engine import Simulator
from wakedream.environments.crafter.player import ACTION, CrafterPlayer

LEVELS = ((0.0, 0.35), (0.1, 0.3), (0.3, 0.25), (1.0, 0.1))  # share of noise, how often an episode has it
HOLD = 0.7  # chance that a random action goes on
WALKING = [ACTION[f"move_{way}"] for way in ("left", "right", "up", "down")]


class NoisyPlayer:
    """The scripted player, with an `aim` a specialist; `epsilon`, drawn per episode, is the share of steps taken at
    random, in bursts."""

    def __init__(self, simulator: Simulator, rng: np.random.Generator, epsilon: float | None = None,
                 aim: str | None = None):
        self.epsilon = drawn(LEVELS, rng) if epsilon is None else epsilon
        who = {"policy": "specialist", "aim": aim} if aim else {"policy": "scripted"}
        self.info: dict[str, Any] = {**who, "epsilon": self.epsilon}
        self.player, self.rng, self.bursts = CrafterPlayer(simulator, aim), rng, Bursts(self.epsilon, rng)
        if self.epsilon < 1:  # a share a little too large (0.31 for 0.3), as all recordings have it
            self.bursts.start = self.epsilon / ((1 - self.epsilon) * (BURST + 1))
        self.action = ACTION["noop"]

    def __call__(self, frame: np.ndarray) -> int:
        if self.bursts.begins():
            self.action = self._draw()
        if not self.bursts.lasts():
            return self.player()
        if self.rng.random() >= HOLD:
            self.action = self._draw()
        self.player.interrupted()
        return self.action

    def _draw(self) -> int:
        """Walks and uses more often than the fifteen others, most of which do nothing."""
        kind = self.rng.random()
        if kind < 0.6:
            return int(self.rng.choice(WALKING))
        return ACTION["do"] if kind < 0.8 else int(self.rng.integers(len(ACTION)))
