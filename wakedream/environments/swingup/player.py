"""A scripted player that reads the simulator's state: swings the pole up by its energy, then balances it."""

import math
from typing import Any

import numpy as np

from wakedream.environments.bursts import Bursts, drawn
from wakedream.environments.swingup.env import SwingUpEnv

LEVELS = (  # skill, share of noise, how often an episode has them
    ((1.0, 0.0), 0.2),
    ((1.0, 0.15), 0.2),
    ((0.6, 0.1), 0.3),
    ((0.3, 0.3), 0.3),
)
HOLD = 0.7  # chance that a random force goes on
GRAVITY, LENGTH = 9.81, 0.688  # of the point mass that swings as the pole does, in metres
MASS, FORCE = 1.1, 10.0  # kilograms of cart and pole, newtons of an action of 1
CATCH = 0.7  # radians from upright within which the pole is balanced
BALANCE = (0.887, 7.445, 1.144, 1.851)  # linear-quadratic, per step of 0.04 s; costs 0.5, 5, 0.1, 0.1 and 0.3 for force


class SwingUpPlayer:
    """Drawn per episode: `skill`, 0 to 1, for lack of which forces are inexact and go on too long; `epsilon`, the share
    of steps with any force at all, in bursts, from which it recovers."""

    def __init__(self, env: SwingUpEnv, rng: np.random.Generator, skill: float | None = None, epsilon: float = 0.0):
        chosen = drawn(LEVELS, rng)
        self.skill, self.epsilon = chosen if skill is None else (skill, epsilon)
        self.info: dict[str, Any] = {"policy": "scripted", "skill": self.skill, "epsilon": self.epsilon}
        self.env, self.rng, self.bursts = env, rng, Bursts(self.epsilon, rng)
        self.force = 0.0

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        begins = self.bursts.begins()
        if self.bursts.lasts():
            if begins or self.rng.random() >= HOLD:
                self.force = self.rng.uniform(-1, 1)
        elif self.rng.random() < self.skill:
            self.force = best(self.env.state) + (1 - self.skill) * self.rng.standard_normal()
        self.force = min(max(self.force, -1.0), 1.0)
        return np.array([self.force], np.float32)


def best(state: tuple[float, float, float, float]) -> float:
    """The force of a player that makes no mistakes; not bounded."""
    place, angle, speed, spin = state
    angle = (angle + math.pi) % (2 * math.pi) - math.pi
    if abs(angle) < CATCH:
        return float(np.dot(BALANCE, (place, angle, speed, spin)))
    lacking = GRAVITY * (1 - math.cos(angle)) - LENGTH * spin ** 2 / 2  # energy, for its mass and length
    swing = -0.5 * lacking * math.tanh(5 * spin * math.cos(angle))  # as it moves, decided even where slow
    return (swing - 4 * place - speed) * MASS / FORCE
