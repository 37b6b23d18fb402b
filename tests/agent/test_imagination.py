"""In a world whose reward is known: the heads read the frame that it arrives with, the policy begins as the cloned
one, practice finds the action that is rewarded, and shuffled rewards teach nothing."""

import copy
import itertools
import json
from dataclasses import replace

import torch
from agent.known_world import FATAL, REWARDED

from wakedream.agent.agent import AgentModel
from wakedream.agent.batches import ContextBatches
from wakedream.agent.config import ContextConfig, ImaginationConfig
from wakedream.agent.imagination import ImaginationObjective, Imagining
from wakedream.evaluation.config import EvaluateAgentConfig
from wakedream.evaluation.evaluate import evaluate
from wakedream.training.config import OptimConfig, TrainConfig
from wakedream.training.distributed import Place
from wakedream.training.loop import fit
from wakedream.training.optim import build_optimizers

CONTEXTS = ContextConfig(batch_size=32, length=4, relevant="all")
CONFIG = ImaginationConfig(horizon=6, sampling_steps=2, gamma=0.9, value_first=10, updates=2)
TRAIN = TrainConfig(steps=60, warmup_steps=2, precision="float32", compile="off", device="cpu", log_every=5,
                    save_every=1000, ema_decay=0.5, decay_fraction=0.1)


def contexts(known):
    store, _, latents, _ = known
    return ContextBatches(store, latents, CONTEXTS)


def rolled(agent, known, horizon=6):
    batches = contexts(known)
    return Imagining(agent, 32, sampling_steps=2).rollout(next(batches), batches.num_starts, horizon)


def test_reward_and_end_are_read_at_the_frame_that_they_arrive_with(agent, known):
    """The reward of the action taken at t is that of the hidden output of frame t + 1; the end too."""
    rollout = rolled(agent, known, 12)
    hidden, moves = rollout.hidden[:, 1:], rollout.actions["move"]
    rewards, goes_on = agent.reward_at(hidden), agent.goes_on_at(hidden)
    assert rewards[moves == REWARDED].mean() > 0.8 and rewards[moves != REWARDED].mean() < 0.1
    assert goes_on[moves == FATAL].mean() < 0.75 < 0.9 < goes_on[moves != FATAL].mean()


def test_the_policy_begins_as_the_cloned_one(agent, known):
    batches = contexts(known)
    objective = ImaginationObjective(agent, CONFIG, 32, batches.num_starts)
    objective.prepare(CONFIG.value_first)
    losses = objective(next(batches))
    assert losses["kl"] == 0 and losses["pmpo"] != 0
    losses["actor"].backward()
    moved = {name.partition(".")[0] for name, weight in agent.named_parameters() if weight.grad is not None}
    assert moved == {"policy"}  # no gradient reaches the world or the other heads


def test_a_rollout_repeats_and_hangs_on_its_seed_alone(agent, known):
    batches = contexts(known)
    drawn, imagining = next(batches), Imagining(agent, 32, sampling_steps=2)
    first, again = (imagining.rollout(drawn, batches.num_starts, 4) for _ in range(2))
    assert torch.equal(first.actions["move"], again.actions["move"]) and torch.equal(first.hidden, again.hidden)
    other = imagining.rollout(replace(drawn, seeds=drawn.seeds + 1), batches.num_starts, 4)
    assert not torch.equal(first.actions["move"], other.actions["move"])


def practise(agent, known, folder, steps=60):
    batches = contexts(known)
    objective = ImaginationObjective(agent, CONFIG, 32, batches.num_starts)
    fit(objective, lambda model: build_optimizers(model, OptimConfig(adamw_lr=3e-3)), batches,
        replace(TRAIN, steps=steps), Place(torch.device("cpu")), folder, 32 * 6)
    return AgentModel.from_pretrained(folder)


def test_all_updates_of_a_step_learn_from_its_one_rollout(agent, known, tmp_path):
    """Two steps of three updates: two rollouts, and weights moved six times."""
    batches = contexts(known)
    objective = ImaginationObjective(agent, replace(CONFIG, updates=3, value_first=0), 32, batches.num_starts)
    rolled, moved = [], []
    imagining = objective._imagining = Imagining(agent, 32, sampling_steps=2)
    imagining.rollout = lambda *given, roll=imagining.rollout: rolled.append(given[0]) or roll(*given)
    follow = objective._follow
    objective._follow = lambda: moved.append(agent.policy.out.weight.detach().clone()) or follow()
    fit(objective, lambda model: build_optimizers(model, OptimConfig(adamw_lr=3e-3)), batches,
        replace(TRAIN, steps=2, warmup_steps=0), Place(torch.device("cpu")), tmp_path, 32 * 6)
    assert len(rolled) == 2 and rolled[0] is not rolled[1]
    assert len(moved) == 6 and not any(torch.equal(*pair) for pair in itertools.pairwise(moved))


def chosen(agent, known):
    """How often each move is taken in dreams."""
    return rolled(agent, known).actions["move"].flatten().bincount(minlength=4) / (32 * 6)


def test_practice_finds_what_is_rewarded_and_avoids_the_end(agent, known, tmp_path):
    before = chosen(agent, known)
    after = chosen(practise(copy.deepcopy(agent), known, tmp_path / "run"), known)
    assert abs(before[REWARDED] - 0.25) < 0.12
    assert after[REWARDED] > before[REWARDED] + 0.3 and after[FATAL] < before[FATAL]


def test_what_was_practised_in_the_dream_is_done_in_the_world(agent, known, tmp_path):
    """Judged by `evaluate` in the real environment, on the same worlds: the intervals do not overlap."""
    practise(copy.deepcopy(agent), known, tmp_path / "practised")
    known[1].save_pretrained(tmp_path / "practised" / "tokenizer")
    (tmp_path / "cloned").mkdir()
    agent.save_pretrained(tmp_path / "cloned" / "model")
    known[1].save_pretrained(tmp_path / "cloned" / "tokenizer")
    evaluate(EvaluateAgentConfig(tmp_path / "practised", known[0].path, tmp_path / "page", episodes=64, videos=False,
                                 against=(tmp_path / "cloned",), device="cpu"))
    found = json.loads((tmp_path / "page" / "metrics.json").read_text())
    returns = {row["policy"]: row["measures"]["return"] for row in found["rows"]}
    assert list(returns) == ["random", "cloned", "cloned, greedy", "practised", "practised, greedy"]
    assert abs(returns["cloned"]["value"] - returns["random"]["value"]) < 2
    assert returns["practised"]["low"] > returns["cloned"]["high"]
    difference = next(row["differences"]["return"] for row in found["rows"] if row["policy"] == "practised")
    assert difference["low"] > 0


def test_rewards_without_an_end_are_known_at_once(agent, known):
    """Reward 1 a frame, less 1 where the rewarded move is made: worth about 75 more than the value head can say here,
    and actions are told apart before the head has learned anything."""
    agent.reward_at = lambda hidden: 1 - AgentModel.reward_at(agent, hidden)
    agent.goes_on_at = lambda hidden: torch.ones(hidden.shape[:-1])
    batches = contexts(known)
    objective = ImaginationObjective(agent, replace(CONFIG, gamma=0.99), 32, batches.num_starts)
    good = []
    for step in range(3):
        objective.prepare(step)
        good.append(objective(next(batches))["good"])
    assert 60 < agent.average_value < 90
    assert 0.3 < torch.stack(good).mean() < 0.7


def test_only_policy_and_value_change(agent, known, tmp_path):
    before = copy.deepcopy(agent.state_dict())
    after = practise(copy.deepcopy(agent), known, tmp_path / "run", steps=12).state_dict()
    changed = {name.partition(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"policy", "value", "average_value"}


def test_a_reward_that_knows_nothing_teaches_nothing(agent, known, tmp_path):
    """The reward head unlearned: advantages are chance, and the policy stays near the cloned one."""
    torch.nn.init.zeros_(agent.reward.out.weight)
    before = chosen(agent, known)
    after = chosen(practise(copy.deepcopy(agent), known, tmp_path / "run"), known)
    assert abs(after[REWARDED] - before[REWARDED]) < 0.15


def test_it_goes_on_bit_for_bit(agent, known, tmp_path):
    whole = practise(copy.deepcopy(agent), known, tmp_path / "whole", steps=14).state_dict()
    folder = tmp_path / "parts"
    batches = contexts(known)
    for steps in (12, 14):
        own = copy.deepcopy(agent)
        objective = ImaginationObjective(own, CONFIG, 32, batches.num_starts)
        train = replace(TRAIN, steps=steps, decay_fraction=0.0)
        fit(objective, lambda model: build_optimizers(model, OptimConfig(adamw_lr=3e-3)), contexts(known), train,
            Place(torch.device("cpu")), folder, 32 * 6)
    parts = AgentModel.from_pretrained(folder).state_dict()
    own = copy.deepcopy(agent)
    objective = ImaginationObjective(own, CONFIG, 32, batches.num_starts)
    fit(objective, lambda model: build_optimizers(model, OptimConfig(adamw_lr=3e-3)), contexts(known),
        replace(TRAIN, steps=14, decay_fraction=0.0), Place(torch.device("cpu")), tmp_path / "straight", 32 * 6)
    straight = AgentModel.from_pretrained(tmp_path / "straight").state_dict()
    assert not [name for name in straight if not torch.equal(straight[name], parts[name])]
    assert whole.keys() == straight.keys()


def test_a_rollout_begins_where_its_context_ends(agent, known):
    """At the last frame; of the first rows, which are an episode's first frame, nothing else is looked at."""
    batches = contexts(known)
    drawn, imagining = next(batches), Imagining(agent, 32, sampling_steps=2)
    starts = batches.num_starts
    seen = imagining.rollout(drawn, starts, 1).hidden[:, 0]
    latents = drawn.clip.latents.clone()
    latents[:, -1] = -latents[:, -1]
    clip = replace(drawn.clip, latents=latents)
    other = imagining.rollout(replace(drawn, clip=clip), starts, 1).hidden[:, 0]
    changed = (seen - other).abs().amax(1) > 1e-3
    assert 0 < starts < 32 and not changed[:starts].any() and changed[starts:].all()
    from_first = drawn.clip.trajectory.has_action[:starts, 0]
    assert not from_first.any()


def test_the_slow_value_follows(agent, known):
    batches = contexts(known)
    objective = ImaginationObjective(agent, replace(CONFIG, slow_decay=0.75), 32, batches.num_starts)
    before = objective.slow_value.out.weight.clone()
    torch.nn.init.ones_(agent.value.out.weight)
    objective(next(batches))
    torch.testing.assert_close(objective.slow_value.out.weight, 0.75 * before + 0.25)
    assert "slow_value.out.weight" in objective.state_dict()
