"""What can be played: built-in environments by name, and any other by its Gymnasium id; all that belongs to one.

Every environment made here speaks Gymnasium; its observations are pictures, uint8 (h w 3). `info` may hold
`extras`, numbers that belong to the frame, `events`, what happened at it, and `reward_known`. Nothing heavy is imported
before an environment is made.
"""

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from wakedream.config import suggest
from wakedream.environments import policies
from wakedream.environments.mixture import shares
from wakedream.environments.pixels import AnySize
from wakedream.environments.policies import MakePolicy, Policy
from wakedream.errors import ConfigError, require

NONE: Mapping[str, MakePolicy] = {}  # guests that play, too: by default nobody


@dataclass(frozen=True)
class Environment:
    """`make(size)` builds it, with frames of height x width or a square; None: its own.

    Episodes end after `frames[0]` to `frames[1]` frames.

    policies         ways to play by name
    package, extra   the module that it needs, and the extra of wakedream that brings it
    commands         what a player would press, as the environment's own action; the first, `still`, does nothing.
                     {} where that is not known
    others           names of further actions, for a legend
    hold             frames for which a command is held until it shows
    litters          it leaves files in the folder where it runs
    """

    make: Callable[[AnySize], Any]
    policies: Mapping[str, MakePolicy] = field(default_factory=dict)
    frames: tuple[int, int] = (1000, 1000)
    package: str = "gymnasium"
    extra: str = "gym"
    commands: Mapping[str, int] = field(default_factory=dict)
    others: Mapping[str, int] = field(default_factory=dict)
    hold: int = 1
    litters: bool = False

    @property
    def default_policy(self) -> str:
        return "scripted" if "scripted" in self.policies else "sticky"

    @property
    def still(self) -> str | None:
        """The command that does nothing; None where no commands are known."""
        return next(iter(self.commands), None)

    @property
    def names(self) -> Mapping[str, int]:
        """Of actions, all that are known."""
        return {**self.commands, **self.others}

    @property
    def installed(self) -> bool:
        return all(importlib.util.find_spec(name) is not None for name in ("gymnasium", self.package))


def _crafter(size: AnySize) -> Any:
    _require("crafter")
    from wakedream.environments.crafter.env import CrafterEnv

    return CrafterEnv(size or 64)


def _coinrun(size: AnySize) -> Any:
    _require("coinrun")
    from wakedream.environments.coinrun import CoinRunEnv

    return CoinRunEnv(size)


def _doorkey(size: AnySize, cells: int = 6) -> Any:
    _require("doorkey")
    from wakedream.environments.doorkey import DoorKeyEnv

    return DoorKeyEnv(size or 64, cells)


def _doom(size: AnySize) -> Any:
    _require("doom")
    from wakedream.environments.doom import DoomEnv

    return DoomEnv(size or 64)


def _swingup(size: AnySize) -> Any:
    require("gymnasium", "swingup")  # MuJoCo is imported where it is explained if it cannot draw
    from wakedream.environments.swingup.env import SwingUpEnv

    return SwingUpEnv(size or 64)


def _require(name: str) -> None:
    for package in ("gymnasium", BUILT_IN[name].package):
        require(package, BUILT_IN[name].extra)


_CRAFTS = ("do", "sleep", "place stone", "place table", "place furnace", "place plant", "wood pickaxe", "stone pickaxe",
           "iron pickaxe", "wood sword", "stone sword", "iron sword")  # actions 5 to 16
_GENERAL: dict[str, MakePolicy] = {"random": policies.Random, "sticky": policies.Sticky}
BUILT_IN = {
    "crafter": Environment(
        _crafter, {**_GENERAL, "scripted": policies.crafter_scripted, "specialist": policies.crafter_specialist},
        (100, 1000), "crafter", "crafter",
        {"noop": 0, "left": 1, "right": 2, "up": 3, "down": 4},  # a step moves by a whole cell
        {name: 5 + i for i, name in enumerate(_CRAFTS)}),
    "coinrun": Environment(
        _coinrun, {**_GENERAL, "scripted": policies.coinrun_scripted, "varied": policies.coinrun_varied},
        package="envpool", extra="coinrun",
        commands={"noop": 4, "left": 1, "right": 7, "jump": 5}, hold=8,  # it gathers speed
        others={"left down": 0, "left jump": 2, "down": 3, "right down": 6, "right jump": 8}),
    "doorkey": Environment(
        _doorkey, {**_GENERAL, "scripted": policies.doorkey_scripted}, (101, 101), "minigrid", "minigrid",
        {"noop": 6, "left": 0, "right": 1, "forward": 2, "pickup": 3, "toggle": 5}, {"drop": 4}),
    "doom": Environment(
        _doom, {**_GENERAL, "scripted": policies.doom_scripted}, (76, 76), "vizdoom", "vizdoom",
        {"noop": 0, "left": 1, "right": 2, "shoot": 3}, hold=4, litters=True),  # it gathers speed
    "swingup": Environment(
        _swingup, {**_GENERAL, "scripted": policies.swingup_scripted}, (251, 251), "mujoco", "swingup"),
}
BUILT_IN["doorkey5"] = replace(BUILT_IN["doorkey"], make=partial(_doorkey, cells=5))


def commanded() -> list[str]:
    """The environments whose commands are known."""
    return [name for name, known in BUILT_IN.items() if known.commands]


def environment(name: str) -> Environment:
    """The built-in environment of that name, or the one that Gymnasium knows by it (`module:Id-v0` too)."""
    if name in BUILT_IN:
        return BUILT_IN[name]
    if not any(sign in name for sign in "-:/"):
        error = suggest("environment", name, BUILT_IN)
        raise ConfigError(f"{error}; others go by their Gymnasium id, as in 'CartPole-v1' or 'module:Id-v0'")

    def make(size: AnySize) -> Any:
        require("gymnasium", "gym")
        from wakedream.environments.gymnasium import make_by_id

        return make_by_id(name, size)

    return Environment(make, _GENERAL, hold=4, litters=name.startswith("vizdoom"))  # an effect shows after a few frames


def check_policy(policy: str | None, env_name: str, guests: Mapping[str, MakePolicy] = NONE) -> None:
    """ConfigError for a policy, or one of a mix, that is none of the environment's and no guest."""
    for name in shares(policy) if policy else ():
        known_policy(name, env_name, guests)


def make_policy(name: str | None, env_name: str, env: Any, rng: np.random.Generator,
                guests: Mapping[str, MakePolicy] = NONE) -> Policy:
    """The policy for one episode of `env`; None is the environment's default."""
    return known_policy(name, env_name, guests)(env, rng)


def known_policy(name: str | None, env_name: str, guests: Mapping[str, MakePolicy] = NONE) -> MakePolicy:
    """What makes it; guests: others that may play. ConfigError where there is none of that name."""
    known = environment(env_name)
    name, policies = name or known.default_policy, {**known.policies, **guests}
    if name not in policies:
        raise suggest(f"policy for {env_name}", name, policies)
    return policies[name]
