"""Playing one whole episode, and keeping it."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from wakedream.data.actions import Actions, ActionSpec
from wakedream.data.episode import Episode
from wakedream.environments.mixture import drawn
from wakedream.environments.policies import MakePolicy
from wakedream.environments.registry import NONE, environment, make_policy
from wakedream.errors import DataError


def play_episode(name: str, env: Any, policy_name: str | None, seed: int, index: int,
                 max_frames: int | None = None, guests: Mapping[str, MakePolicy] = NONE) -> Episode:
    """Episode `index` of a recording with `seed`: the two decide its world, its length, its player and its chances.

    name, env   of the environment, made by `environment(name).make(size)`
    policy_name a policy or a mix of them; each plays an episode as it would play it without the others
    max_frames  cut it after so many; None: the environment's own bounds
    guests      further policies by name
    """
    seeds = np.random.SeedSequence([seed, index])
    chances, draw = seeds.spawn(2)
    env_seed, rng = int(seeds.generate_state(1)[0] >> 1), np.random.default_rng(chances)
    limit = max_frames or _draw_limit(environment(name).frames, rng)
    frame, info = env.reset(seed=env_seed)
    player = policy_name and drawn(policy_name, np.random.default_rng(draw).random())
    policy = make_policy(player, name, env, rng, guests)
    record = _Recorder(ActionSpec.from_space(env.action_space), frame, info)
    terminated = truncated = False
    while not (terminated or truncated) and len(record.video) < limit:
        action = policy(frame)
        frame, reward, terminated, truncated, info = env.step(action)
        record.step(action, frame, reward, info)
    about = {"env": name, "episode": index, "seed": env_seed, **policy.info}
    if "achievements" in info:
        about["achievements"] = {key: int(count) for key, count in info["achievements"].items()}
    return record.episode(bool(terminated), about)


def cut(episode: Episode, frames: int) -> Episode:
    """The first `frames` frames; truncated, if that is less than all."""
    if frames >= len(episode.video):
        return episode
    columns = {name: values[:frames] for name, values in episode.columns().items()}
    return Episode.of_columns(episode.video[:frames], columns, False, True, episode.info)


class _Recorder:
    """Collects frames with the action that led into each and the reward that came with it; the first has neither.

    info may hold `extras`, numbers, NaN at a frame where one is not told; `events`, of which one that is not told did
    not happen; and `reward_known`, False where the reward is no reward but a placeholder.
    """

    def __init__(self, spec: ActionSpec, frame: np.ndarray, info: dict[str, Any]):
        self.spec = spec
        self.video, self.rewards, self.known = [np.array(frame)], [0.0], [False]  # copies: some reuse their arrays
        self.actions: list[Actions] = [{name: zeros[0] for name, zeros in spec.placeholder(1).items()}]
        self.extras, self.events = [info.get("extras", {})], [info.get("events", {})]

    def step(self, action: Any, frame: np.ndarray, reward: float, info: dict[str, Any]) -> None:
        self.actions.append(self.spec.flatten(action))
        self.video.append(np.array(frame))
        self.known.append(bool(info.get("reward_known", True)))
        self.rewards.append(float(reward) if self.known[-1] else 0.0)
        self.extras.append(info.get("extras", {}))
        self.events.append(info.get("events", {}))

    def episode(self, terminated: bool, info: dict[str, Any]) -> Episode:
        shapes = {frame.shape for frame in self.video}
        if len(shapes) > 1:
            raise DataError(f"one episode has frames of several shapes ({sorted(shapes)}): choose a --size")
        has_action = np.arange(len(self.video)) > 0
        extras, events = set[str]().union(*self.extras), set[str]().union(*self.events)
        return Episode(
            np.stack(self.video),
            {c.name: np.stack([action[c.name] for action in self.actions]) for c in self.spec.components},
            has_action, np.array(self.rewards, np.float32), terminated, not terminated,
            {name: np.array([numbers.get(name, np.nan) for numbers in self.extras], np.float32)
             for name in sorted(extras)},
            info, np.array(self.known),
            {name: np.array([bool(came.get(name)) for came in self.events]) for name in sorted(events)})


def _draw_limit(bounds: tuple[int, int], rng: np.random.Generator) -> int:
    """Log-uniform: many short episodes, so that small recordings hold many worlds, and some long ones."""
    low, high = bounds
    return round(math.exp(rng.uniform(math.log(low), math.log(high))))
