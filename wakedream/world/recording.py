"""`wakedream record`: the environment's own players, and trained agents beside them."""

import functools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wakedream.environments import record as environments
from wakedream.environments.config import RecordConfig
from wakedream.environments.mixture import shares
from wakedream.environments.registry import environment
from wakedream.errors import ConfigError

if TYPE_CHECKING:
    from wakedream.world.policy import Agent, EnvironmentPlayer


def record(config: RecordConfig) -> None:
    """As environments.record.record; who is named by a path is an agent of that run folder."""
    own = environment(config.env).policies
    names = [name for name in (shares(config.policy) if config.policy else ()) if name not in own]
    environments.record(config, {name: AgentPolicy(name) for name in names if os.sep in name or Path(name).is_dir()})


@dataclass(frozen=True)
class AgentPolicy:
    """Makes the policy of an episode, in the process that plays it: the agent samples, and forgets with the episode."""

    path: str

    def __call__(self, env: Any, rng: np.random.Generator) -> "AgentPlays":
        """ConfigError where the environment's actions are not the agent's."""
        agent, fingerprint = _agent(self.path)
        seen, about = agent.tokenizer.config, {"policy": self.path, "fingerprint": fingerprint}
        return AgentPlays(about, agent.player_in(env.action_space, seed=int(rng.integers(2**31))),
                          (*seen.frame_size, seen.channels))


class AgentPlays:
    def __init__(self, info: dict[str, Any], player: "EnvironmentPlayer", shape: tuple[int, ...]):
        self.info, self.player, self.shape = info, player, shape

    def __call__(self, frame: np.ndarray) -> Any:
        """ConfigError for a frame that is none of the agent's."""
        if frame.shape != self.shape:
            raise ConfigError(f"--policy {self.info['policy']}: the agent sees frames of {self.shape}, the "
                              f"environment's are {frame.shape} (height, width, channels): choose a --size")
        return self.player.act(frame[None])[0]


@functools.cache
def _agent(path: str) -> "tuple[Agent, str]":
    """And its fingerprint; once a process."""
    from wakedream.world.policy import Agent

    agent = Agent.from_pretrained(path)
    return agent, agent.model.fingerprint()
