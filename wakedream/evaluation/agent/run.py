"""`wakedream evaluate` of an agent."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wakedream.data.store import Store
from wakedream.environments.registry import environment, known_policy
from wakedream.errors import ConfigError
from wakedream.evaluation.agent.dreamed import dreamed
from wakedream.evaluation.agent.judge import MakePlayer, judge
from wakedream.evaluation.agent.judged import Judged
from wakedream.evaluation.agent.report import lines, sections
from wakedream.evaluation.agent.table import policy_table
from wakedream.evaluation.config import EvaluateAgentConfig
from wakedream.evaluation.dynamics.branching import recorded_seeds
from wakedream.perceptual.lpips import LPIPS
from wakedream.runs import CONFIG, run_of
from wakedream.world.policy import Agent, EnvironmentPlayer

FILMS = 3  # episodes of each policy on the page


class AgentEvaluation:
    """As evaluate.Evaluation says."""

    title = "agent"

    def __init__(self, config: EvaluateAgentConfig, store: Store, device: torch.device, lpips: LPIPS | None):
        self.config, self.store = config, store
        name = config.env or store.manifest.header.info.get("env")
        if name is None:
            raise ConfigError(f"{store.path} was recorded from no environment, so there is none to judge the agent in: "
                              "give its name, --env")
        self.env_name = str(name)
        for policy in config.policies:
            known_policy(policy, self.env_name)
        env = environment(self.env_name).make(store.frame_shape[:2])
        self.space = env.action_space
        env.close()
        runs = [config.run, *(config.against or cloned(config.run))]
        self.agents = {label: Agent.from_pretrained(run).to(device) for label, run in zip(labels(runs), runs,
                                                                                          strict=True)}
        self.films: dict[str, list[np.ndarray]] = {}
        self.dreams: dict[str, list[np.ndarray]] = {}

    def measure(self) -> dict[str, Any]:
        found = {policy: self._judge(policy) for policy in self.config.policies}
        own, *others = self.agents
        for label in (*others, own):
            for greedy in (False, True) if self.config.greedy else (False,):
                found[f"{label}, greedy" if greedy else label] = self._judge(partial(self._player, label, greedy))
        self.films = {label: list(one.films) for label, one in found.items()}
        self.dreams = {label: dreamed(agent, self.films[label], seed=self.config.seed)
                       for label, agent in self.agents.items() if self.config.videos}
        return {"agent": {"run": str(self.config.run)}, "data": {"path": str(self.store.path),
                "fingerprint": self.store.fingerprint}, "seed": self.config.seed,
                **policy_table(found, self.config.primary, others[0] if others else None)}  # fmt: skip

    def sections(self, results: dict[str, Any], out: Path) -> list[str]:
        return sections(results, self.films, self.dreams)

    def lines(self, results: dict[str, Any]) -> list[str]:
        return lines(results)

    def _judge(self, player: MakePlayer | str) -> Judged:
        config = self.config
        return judge(self.env_name, player, config.episodes, seed=config.seed, size=self.store.frame_shape[:2],
                     num_envs=config.num_envs, max_episode_frames=config.length, processes=config.processes,
                     avoid=recorded_seeds([info.info for info in self.store.episodes]),
                     films=FILMS if config.videos else 0)

    def _player(self, label: str, greedy: bool, rows: int) -> EnvironmentPlayer:
        return self.agents[label].player_in(self.space, rows, greedy=greedy, seed=self.config.seed)


def cloned(run: Path) -> list[Path]:
    """Of an agent after imagination the run that it was cloned in, if that is still there."""
    config = run_of(run) / CONFIG
    about = json.loads(config.read_text(encoding="utf-8")) if config.exists() else {}
    before = about.get("config", {}).get("agent")
    return [Path(before)] if before and Path(before).exists() else []


def labels(runs: list[Path]) -> list[str]:
    """The last words of their paths, as many as tell them apart."""
    for count in range(1, 1 + max(len(run.absolute().parts) for run in runs)):
        named = ["/".join(run.absolute().parts[-count:]) for run in runs]
        if len(set(named)) == len(named):
            return named
    raise ConfigError(f"the same run twice: {', '.join(map(str, runs))}")
