"""Tasks by name: hindsight by hand, rewards and ends of a task, rows and contexts that carry theirs."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from agent.conftest import SPEC

from wakedream.agent.agent import TOKENS, AgentModel
from wakedream.agent.batches import AgentBatches, ContextBatches, Shuffled
from wakedream.agent.config import AgentConfig, AgentLoaderConfig, ContextConfig
from wakedream.agent.imagination import Imagining
from wakedream.agent.targets import head_targets
from wakedream.agent.tasks import hindsight, numbers, under
from wakedream.config import from_dict, to_dict
from wakedream.data.episode import Episode
from wakedream.data.store import Store
from wakedream.data.trajectory import Trajectory
from wakedream.data.writer import StoreWriter
from wakedream.dynamics.encode import encode_store
from wakedream.errors import ConfigError

TASKS = ("up", "over", "reward")
LOADER = AgentLoaderConfig(batch_size=16, length=8, short=4, relevant_fraction=0.75, reach=4)


@pytest.fixture(scope="module")
def eventful(known, tmp_path_factory):
    """30 episodes of 14 frames, in which `up` happens at frame 5, `over` at 9, and a reward comes with frame 12."""
    folder = tmp_path_factory.mktemp("eventful")
    at, rng = np.arange(14), np.random.default_rng(0)
    with StoreWriter(folder / "data", SPEC, frame_shape=(16, 16, 3), held_out=0.0) as writer:
        for _ in range(30):
            writer.add(Episode(rng.integers(0, 256, (14, 16, 16, 3), np.uint8), {"move": rng.integers(0, 4, 14)},
                               at > 0, (at == 12).astype(np.float32), False, True,
                               events={"up": at == 5, "over": at == 9}))
    store = Store.open(folder / "data")
    return store, encode_store(known[1], store, folder / "latents", show_progress=False)


def test_a_frame_has_the_task_of_its_row_or_of_what_comes_next():
    up, over = np.zeros((2, 9), bool)
    up[1], over[3], over[7] = True, True, True
    firsts = np.array([0, 5, 9])
    assert hindsight([up, over], firsts, 9).tolist() == [[0, 0, 1, 1, 0, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1, 1, 1, 1]]
    assert hindsight([up, over], firsts, 1).tolist()[1] == [0, 0, 1, 1, 1, 1, 1, 1, 1]  # what is too far is not ahead
    assert not hindsight([up], firsts, 0).any()


def test_a_task_is_rewarded_and_ends_at_its_event_and_nothing_is_asked_past_it():
    acted, never = torch.tensor([[False] + [True] * 5] * 2), torch.zeros(2, 6, dtype=torch.bool)
    last = torch.tensor([[False] * 5 + [True]] * 2)
    given = Trajectory({"move": torch.zeros(2, 6, dtype=torch.int64)}, acted, torch.full((2, 6), 7.0), acted, last,
                       never, {"up": torch.arange(6).expand(2, 6) == 2})
    task = torch.tensor([0, 1])[:, None].expand(2, 6)
    found = under(given, ("up", "reward"), task)
    assert found.rewards.tolist() == [[0, 0, 1, 0, 0, 0], [7] * 6] and torch.equal(found.task, task)
    assert found.terminated.tolist() == [[False, False, True, False, False, True], [False] * 5 + [True]]
    asked = head_targets(found, torch.zeros(2, 6, dtype=torch.int64), 2)
    assert asked.known_actions.sum(-1).tolist() == [[2, 1, 0, 2, 1, 0], [3, 3, 3, 2, 1, 0]]
    assert asked.goes_on[0, :3, 0].tolist() == [1, 1, 0]
    cut = under(replace(given, terminated=never, truncated=given.events["up"]), ("up",), torch.zeros_like(task))
    assert torch.equal(cut.terminated, given.events["up"]) and not cut.truncated.any()


def test_the_reward_alone_is_play_as_it_was(known):
    store, _, latents, _ = known
    batches = AgentBatches(store, latents, AgentLoaderConfig(batch_size=8, length=12, short=4))
    clip = next(batches)
    assert not clip.task.any()
    again = under(clip.trajectory, ("reward",), clip.task)
    for mine, other in zip(again.tensors(), clip.trajectory.tensors(), strict=True):
        assert torch.equal(mine, other)


def test_rows_are_relevant_to_their_task_in_turn_and_uniform_ones_have_any(eventful):
    batches, drawn = AgentBatches(*eventful, LOADER, TASKS), set()
    for _ in range(20):
        clip = next(batches)
        uniform, relevant = clip.rows(slice(0, 4)), clip.rows(slice(4, 16))
        assert (uniform.task == uniform.task[:, :1]).all()
        drawn |= {int(number) for number in uniform.task[:, 0]}
        for number, name in enumerate(TASKS[:2]):
            mine = clip.task == number
            assert torch.equal(clip.rewards[mine], clip.events[name][mine].float())
            assert clip.trajectory.terminated[mine & clip.events[name]].all()
        assert not clip.trajectory.terminated[clip.task == 2].any()
        for number, at in enumerate((5, 9, 12)):  # each third row has its task while that is ahead
            row = relevant.rows(slice(number, None, 3))
            place = _place(row)
            assert (row.task[(place <= at) & (place >= at - 4)] == number).all()
    assert drawn == {0, 1, 2}


def _place(clip):
    """The number of each frame in its episode, of 14 frames each: by where an episode begins or ends."""
    known = torch.full(clip.task.shape, -1)
    for marks, number in ((~clip.has_action, 0), (clip.events["up"], 5), (clip.events["over"], 9),
                          (clip.trajectory.truncated, 13)):
        for row, frame in marks.nonzero().tolist():
            for t in range(clip.task.shape[1]):
                if 0 <= number + t - frame < 14 and clip.segments[row, t] == clip.segments[row, frame]:
                    known[row, t] = number + t - frame
    return known


def test_sets_in_turn_are_shared_by_ranks():
    sets = [np.arange(10, 17), np.arange(50, 53)]
    which, whole = Shuffled(sets, 3).take(12)
    assert which.tolist() == [0, 1] * 6 and sorted(whole[1:6:2]) == sorted(whole[7::2]) == [50, 51, 52]
    ranks = [Shuffled(sets, 3, rank, 2).take(6)[1] for rank in range(2)]
    assert np.stack(ranks, 1).ravel().tolist() == whole.tolist()


def test_batches_of_tasks_go_on_where_they_stopped(eventful):
    for make in (lambda: AgentBatches(*eventful, LOADER, TASKS),
                 lambda: ContextBatches(*eventful, ContextConfig(batch_size=8, length=4), TASKS)):
        whole, again = make(), make()
        for _ in range(3):
            next(whole)
        again.load_state_dict(whole.state_dict())
        for mine, other in zip(next(whole).tensors(), next(again).tensors(), strict=True):
            assert torch.equal(mine, other)


def test_contexts_are_relevant_to_their_task_and_rollouts_do_it(eventful, known):
    config = ContextConfig(batch_size=16, length=3, starts=0.25, relevant_fraction=0.5, reach=3)
    batches, places = ContextBatches(*eventful, config, TASKS), [5, 9, 12]
    drawn = next(batches)
    task = drawn.clip.task
    assert (task == task[:, :1]).all() and task[4:10, 0].tolist() == [0, 1, 2, 0, 1, 2]
    last = torch.from_numpy(batches.kinds["relevant"].sets[1] % 14)
    assert set(last.tolist()) == {6, 7, 8} and len(set(task[:, 0].tolist())) == len(places)
    agent = several(known)
    rollout = Imagining(agent, 16, sampling_steps=2).rollout(drawn, 4, 3)
    told = replace(drawn, clip=replace(drawn.clip, trajectory=replace(drawn.clip.trajectory, task=task.clone())))
    told.clip.task[5] = (told.clip.task[5] + 1) % 3
    other = Imagining(agent, 16, sampling_steps=2).rollout(told, 4, 3)
    rows = torch.arange(16) != 5
    assert torch.equal(rollout.hidden[rows], other.hidden[rows])
    assert not torch.allclose(rollout.hidden[5, 0], other.hidden[5, 0], atol=1e-3)


def several(known, tasks=TASKS):
    """The agent of the known world, as one of several tasks."""
    agent = AgentModel.from_pretrained(known[3])
    about = agent.about()
    torch.manual_seed(0)
    made = AgentModel.build({**about, "agent": {**about["agent"], "tasks": list(tasks)}})
    made.load_state_dict({**agent.state_dict(), "tasks.weight": torch.randn(len(tasks), made.tokens.shape[1])})
    return made


def test_names_are_numbers_and_others_are_refused(eventful):
    assert numbers(TASKS, "over", 2).tolist() == [1, 1] and numbers(TASKS, ["up", "reward"], 2).tolist() == [0, 2]
    with pytest.raises(ConfigError, match="unknown task 'ovr'; did you mean 'over'"):
        numbers(TASKS, "ovr", 2)
    with pytest.raises(ValueError, match="one for each of 3, got 2"):
        numbers(TASKS, ["up", "over"], 3)
    with pytest.raises(ConfigError, match="unknown task 'ovr'; did you mean 'over'"):
        AgentBatches(*eventful, LOADER, ("up", "ovr"))
    for wrong in ((), ("up", "up"), ("",)):
        with pytest.raises(ConfigError, match="expected one name or more, each once"):
            AgentConfig(tasks=wrong)


def test_a_config_from_before_tasks_had_names_is_read():
    values = to_dict(AgentConfig())
    del values["tasks"]
    assert from_dict(AgentConfig, values | {"num_tasks": 1}) == AgentConfig() == from_dict(AgentConfig, values)
    with pytest.raises(ConfigError, match="unknown field of AgentConfig 'num_tasks'"):
        from_dict(AgentConfig, values | {"num_tasks": 2})


def test_tokens_of_a_task_are_the_tokens_and_its_embedding(known):
    agent = several(known)
    told = agent.tokens_of(torch.tensor([[0, 2]]))
    assert torch.equal(told[0, 1], agent.tokens + agent.tasks.weight[2]) and told.shape[:2] == (1, 2)
    assert TOKENS in agent.keep
