"""What can be played: built-in environments by name, and any other by its Gymnasium id.

Every environment made here speaks Gymnasium; its observations are pictures, uint8 (h w 3). `info` may hold
`extras`, numbers that belong to the frame. Nothing heavy is imported before an environment is made.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from wakedream.config import suggest
from wakedream.environments.policies import MakePolicy, Policy
from wakedream.environments import policies
from wakedream.errors import ConfigError, require


@dataclass(frozen=True)
class Environment:
    """`make(size)` builds it; size None is its own. Episodes end after `frames[0]` to `frames[1]` frames."""

    make: Callable[[int | None], Any]
    policies: dict[str, MakePolicy] = field(default_factory=dict)
    frames: tuple[int, int] = (1000, 1000)

    @property
    def default_policy(self) -> str:
        return "scripted" if "scripted" in self.policies else "sticky"


def _crafter(size: int | None) -> Any:
    require("gymnasium", "crafter")
    require("crafter", "crafter")
    from wakedream.environments.crafter.env import CrafterEnv

    return CrafterEnv(size or 64)


def _coinrun(size: int | None) -> Any:
    require("gymnasium", "coinrun")
    from wakedream.environments.coinrun import CoinRunEnv

    return CoinRunEnv(size)


_GENERAL: dict[str, MakePolicy] = {"random": policies.Random, "sticky": policies.Sticky}
BUILT_IN = {
    "crafter": Environment(_crafter, {**_GENERAL, "scripted": policies.crafter_scripted}, (100, 1000)),
    "coinrun": Environment(_coinrun, {**_GENERAL, "scripted": policies.coinrun_scripted,
                                      "varied": policies.coinrun_varied}),
}


def environment(name: str) -> Environment:
    """The built-in environment of that name, or the one that Gymnasium knows by it (`module:Id-v0` too)."""
    if name in BUILT_IN:
        return BUILT_IN[name]
    if not any(sign in name for sign in "-:/"):
        error = suggest("environment", name, BUILT_IN)
        raise ConfigError(f"{error}; others go by their Gymnasium id, as in 'CartPole-v1' or 'module:Id-v0'")

    def make(size: int | None) -> Any:
        require("gymnasium", "gym")
        from wakedream.environments.gymnasium import make_by_id

        return make_by_id(name, size)

    return Environment(make, _GENERAL)


def make_policy(name: str | None, env_name: str, env: Any, rng: np.random.Generator) -> Policy:
    """The policy for one episode of `env`; None is the environment's default."""
    known = environment(env_name)
    name = name or known.default_policy
    if name not in known.policies:
        raise suggest(f"policy for {env_name}", name, known.policies)
    return known.policies[name](env, rng)
