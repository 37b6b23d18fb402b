"""Laws of what is said of an agent's heads on held-out play: means as a plain loop has them, nothing beyond an end."""

import math
from dataclasses import replace

import pytest
import torch

from wakedream.evaluation.agent.heads import answers, heads_beside, heads_on, in_words, last_frames


def test_means_are_those_of_a_loop() -> None:
    torch.manual_seed(0)
    said, goes_on = torch.randn(5, 7) / 3, torch.rand(5, 7)
    rewards = torch.where(torch.rand(5, 7) < 0.3, torch.randn(5, 7), torch.zeros(5, 7))
    known, ended, real = (torch.rand(5, 7) < share for share in (0.8, 0.2, 0.9))
    cells = [(b, t) for b in range(5) for t in range(7)]
    there = [at for at in cells if known[at] and rewards[at] != 0]
    none = [at for at in cells if known[at] and rewards[at] == 0]
    over, on = ([at for at in cells if real[at] and bool(ended[at]) is wanted] for wanted in (True, False))
    size = math.fsum(abs(float(rewards[at])) for at in there) / len(there)

    def mean(values, where):
        return pytest.approx(math.fsum(float(values[at]) for at in where) / len(where), abs=1e-6)

    assert heads_beside(said, goes_on, rewards, known, ended, real) == {
        "rewards": len(there), "reward_true": mean(rewards, there), "reward_said": mean(said, there),
        "reward_elsewhere": mean(said.abs(), none),
        "reward_in_vain": pytest.approx(sum(abs(float(said[at])) > size / 10 for at in none) / len(none)),
        "ends": len(over), "end_goes_on": mean(goes_on, over), "goes_on": mean(goes_on, on)}


def test_what_there_is_nothing_of_is_left_out() -> None:
    nothing, never = torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.bool)
    assert heads_beside(nothing, nothing, nothing, never, never, never) == {"rewards": 0, "ends": 0}
    assert in_words({"rewards": 0, "ends": 0}) == in_words({}) == []


def test_heads_that_have_learned_say_what_came(agent, known) -> None:
    store, _, latents, _ = known
    assert answers(agent, store)
    found = heads_on(agent, last_frames(store, lambda *frames: latents.read(*frames)[0]))
    episodes = [store.read(info.id) for info in store.split(store.judging_split)]
    assert found["rewards"] == sum(int((one.rewards > 0).sum()) for one in episodes)
    assert found["ends"] == sum(one.terminated for one in episodes)
    assert found["reward_true"] == 1 and found["reward_said"] > 0.8 and found["reward_elsewhere"] < 0.1
    assert found["end_goes_on"] < found["goes_on"]
    assert len(in_words(found)) == 2


def test_frames_beyond_an_end_are_not_asked(agent, known) -> None:
    store, _, latents, _ = known
    clip = last_frames(store, lambda *frames: latents.read(*frames)[0])
    beyond = ~clip.has_action
    beyond[:, 0] = False
    assert beyond.any()
    other = replace(clip, latents=torch.where(beyond[..., None, None], -clip.latents, clip.latents))
    assert heads_on(agent, other) == heads_on(agent, clip)


def test_a_data_set_with_other_actions_is_not_asked(agent, known) -> None:
    store, *_ = known
    agent.config = replace(agent.config, tasks=("reward", "door"))
    assert not answers(agent, store)
