"""How to play: a policy is called once a step and returns the next action of its environment."""

import copy
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np

HOLD = 0.75  # chance that a sticky action goes on


@runtime_checkable
class Policy(Protocol):
    """`policy(frame)` is the action to take at `frame`, uint8 (h w c); `info` describes it in JSON values."""

    info: dict[str, Any]

    def __call__(self, frame: np.ndarray) -> Any: ...


MakePolicy = Callable[[Any, np.random.Generator], Policy]  # of an environment and a source of chance


class Random:
    """A fresh random action at every step."""

    def __init__(self, env: Any, rng: np.random.Generator):
        self.info: dict[str, Any] = {"policy": "random"}
        self.space = copy.deepcopy(env.action_space)  # environments side by side may share one, and its chances
        self.space.seed(int(rng.integers(2**31)))

    def __call__(self, frame: np.ndarray) -> Any:
        return self.space.sample()


class Sticky(Random):
    """A random action, held for 1 / (1 - HOLD) steps on average: goes further than single random steps do."""

    def __init__(self, env: Any, rng: np.random.Generator):
        super().__init__(env, rng)
        self.info, self.rng = {"policy": "sticky"}, rng
        self.action = self.space.sample()

    def __call__(self, frame: np.ndarray) -> Any:
        if self.rng.random() >= HOLD:
            self.action = self.space.sample()
        return self.action


def crafter_scripted(env: Any, rng: np.random.Generator) -> Policy:
    from wakedream.environments.crafter.noise import NoisyPlayer

    return NoisyPlayer(env.unwrapped.simulator, rng)


def crafter_specialist(env: Any, rng: np.random.Generator) -> Policy:
    """Wants one thing alone, drawn for each episode."""
    from wakedream.environments.crafter.noise import NoisyPlayer
    from wakedream.environments.crafter.player import AIMS

    aim = AIMS[int(rng.integers(len(AIMS)))]
    return NoisyPlayer(env.unwrapped.simulator, rng, aim=aim)


def doorkey_scripted(env: Any, rng: np.random.Generator) -> Policy:
    from wakedream.environments.doorkey import DoorKeyPlayer

    return DoorKeyPlayer(env.unwrapped, rng)


def doom_scripted(env: Any, rng: np.random.Generator) -> Policy:
    from wakedream.environments.doom import DoomPlayer

    return DoomPlayer(env.unwrapped, rng)


def swingup_scripted(env: Any, rng: np.random.Generator) -> Policy:
    from wakedream.environments.swingup.player import SwingUpPlayer

    return SwingUpPlayer(env.unwrapped, rng)


def coinrun_scripted(env: Any, rng: np.random.Generator) -> Policy:
    from wakedream.environments.coinrun import Runner

    return Runner(rng)


def coinrun_varied(env: Any, rng: np.random.Generator) -> Policy:
    from wakedream.environments.coinrun import Wanderer

    return Wanderer(rng)
