"""`wakedream evaluate` of an agent."""

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wakedream.data.store import Store
from wakedream.environments.registry import environment, known_policy
from wakedream.errors import ConfigError
from wakedream.evaluation.agent.dreamed import dreamed
from wakedream.evaluation.agent.heads import answers, heads_on, last_frames
from wakedream.evaluation.agent.judge import MakePlayer, judge
from wakedream.evaluation.agent.judged import Judged
from wakedream.evaluation.agent.prompts import Led, sequence
from wakedream.evaluation.agent.report import lines, sections
from wakedream.evaluation.agent.table import learning_curve, policy_table
from wakedream.evaluation.config import EvaluateAgentConfig
from wakedream.evaluation.dynamics.branching import recorded_seeds
from wakedream.evaluation.dynamics.windows import encoded, evenly
from wakedream.perceptual.lpips import LPIPS
from wakedream.runs import CONFIG, run_of
from wakedream.world.policy import Agent

FILMS = 3  # episodes of each policy on the page


class AgentEvaluation:
    """As evaluate.Evaluation says."""

    title = "agent"

    def __init__(self, config: EvaluateAgentConfig, store: Store, device: torch.device, lpips: LPIPS | None):
        self.config, self.store, self.device = config, store, device
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
        self.prompts = {label: sequence(agent.tasks, config.prompts) for label, agent in self.agents.items()}
        self.films: dict[str, list[np.ndarray]] = {}
        self.dreams: dict[str, list[np.ndarray]] = {}

    def measure(self) -> dict[str, Any]:
        found = {policy: self._judge(policy) for policy in self.config.policies}
        own, *others = self.agents
        for label in (*others, own):
            both = self.config.greedy and label in (own, *others[:1])
            for greedy in (False, True) if both else (False,):
                player = partial(self._player, self.agents[label], greedy)
                found[f"{label}, greedy" if greedy else label] = self._judge(player)
        curve = self._curve(found[own], found[others[0]] if others else None)
        self.films = {label: list(one.films) for label, one in found.items()}
        seed = self.config.seed
        self.dreams = {label: dreamed(agent, self.films[label], self.prompts[label][0], seed=seed)
                       for label, agent in self.agents.items() if self.config.videos}
        agent = self.agents[own]
        heads = (heads_on(agent.model, last_frames(self.store, partial(self._latents, agent)))
                 if answers(agent.model, self.store) else {})
        return {"agent": {"run": str(self.config.run), "prompts": self.prompts}, "heads": heads,
                "data": {"path": str(self.store.path), "fingerprint": self.store.fingerprint}, "seed": seed,
                **policy_table(found, self.config.primary, others[0] if others else None), "curve": curve}  # fmt: skip

    def sections(self, results: dict[str, Any], out: Path) -> list[str]:
        return sections(results, self.films, self.dreams)

    def lines(self, results: dict[str, Any]) -> list[str]:
        told = {label: prompts for label, prompts in self.prompts.items() if len(self.agents[label].tasks) > 1}
        return [f"{label} is told {', then '.join(prompts)}" for label, prompts in told.items()] + lines(results)

    def _curve(self, last: Judged, first: Judged | None) -> list[dict[str, Any]]:
        """From the cloned agent over checkpoints to the run's own; none where no checkpoint lies between."""
        kept = checkpoints(self.config.run)
        if not kept:
            return []
        updates, between = max(kept), sorted(kept)[:-1]
        chosen = [between[i] for i in evenly(len(between), self.config.curve).tolist()]
        judged = {0: first} if first is not None else {}
        for step in chosen:
            agent = Agent.from_pretrained(kept[step]).to(self.device)
            judged[step] = self._judge(partial(self._player, agent, False), films=0)
        return learning_curve(judged | {updates: last}, self.config.primary) if chosen else []

    def _latents(self, agent: Agent, episode: int, start: int, stop: int) -> torch.Tensor:
        video = self.store.video(episode, start, stop).transpose(0, 3, 1, 2)
        return encoded(agent.tokenizer, torch.from_numpy(video[None]))[0]

    def _judge(self, player: MakePlayer | str, films: int = FILMS) -> Judged:
        config = self.config
        return judge(self.env_name, player, config.episodes, seed=config.seed, size=self.store.frame_shape[:2],
                     num_envs=config.num_envs, max_episode_frames=config.length, processes=config.processes,
                     avoid=recorded_seeds([info.info for info in self.store.episodes]),
                     films=films if config.videos else 0)

    def _player(self, agent: Agent, greedy: bool, rows: int) -> Led:
        player = agent.player_in(self.space, rows, greedy=greedy, seed=self.config.seed)
        return Led(player, sequence(agent.tasks, self.config.prompts), rows)


def checkpoints(run: Path) -> dict[int, Path]:
    """Weights of an agent's run after imagination, by the updates after which they were kept."""
    if not cloned(run):
        return {}
    found = (run / "checkpoints").glob("step_*/model")
    named = ((re.fullmatch(r"step_([0-9]+)", path.parent.name), path) for path in found)  # not copies of the user's
    return {int(name[1]): path for name, path in named if name}


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
