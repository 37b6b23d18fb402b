"""The dream keeps Gymnasium's contract: seeds repeat, rows live apart; what arrives is what the agent's heads say."""

import warnings

import gymnasium
import numpy as np
import pytest
import torch
from agent.conftest import known  # noqa: F401
from agent.known_world import FATAL, REWARDED
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env

import wakedream as wd
from wakedream.agent.agent import AgentModel
from wakedream.data.actions import ActionSpec
from wakedream.errors import ConfigError
from wakedream.world.env import space_of
from wakedream.world.policy import Agent
from wakedream.world.rows import DreamRows


@pytest.fixture(scope="module")
def agent(known):  # noqa: F811
    return Agent(known[1], AgentModel.from_pretrained(known[3]))


@pytest.mark.parametrize("whose", ["agent", "world"])
@pytest.mark.parametrize("starts", [True, False])
def test_it_is_an_environment(agent, known, whose, starts):  # noqa: F811
    env = wd.DreamEnv(agent if whose == "agent" else agent.world, data=known[0] if starts else None, context=4,
                      sampling_steps=2, render_mode="rgb_array")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env, skip_render_check=True)
    frame, _ = env.reset(seed=1)
    assert np.array_equal(env.render(), frame)


def played(env, moves, seed):
    frames = [env.reset(seed=seed)[0]]
    told = []
    for move in moves:
        frame, *rest = env.step(move)
        frames.append(frame)
        told.append(rest)
    return np.stack(frames), told


def test_a_seed_repeats_and_another_does_not(agent, known):  # noqa: F811
    env = wd.DreamEnv(agent, data=known[0], context=4, sampling_steps=2)
    moves = [0, 1, 2, 1, 0]
    (first, told), (again, told_again), (other, _) = (played(env, moves, seed) for seed in (3, 3, 4))
    assert np.array_equal(first, again) and told == told_again and not np.array_equal(first, other)


def test_a_row_among_others_is_an_environment_of_its_own(agent, known):  # noqa: F811
    """Whatever the others do, whether or not they have just begun anew."""
    options = {"data": known[0], "context": 4, "sampling_steps": 2, "max_steps": 5}
    envs, alone = wd.DreamVectorEnv(agent, 3, **options), wd.DreamEnv(agent, **options)
    moves = np.array([[2, 0, 1], [1, 3, 2], [0, 3, 2], [2, 3, 1], [1, 3, 0]])
    frames = [envs.reset(seed=[8, 9, 10])[0]]
    ends = []
    for each in moves:
        frame, rewards, terminated, truncated, _ = envs.step(each)
        frames.append(frame)
        ends.append(terminated | truncated)
    single, told = played(alone, moves[:, 0], 8)
    assert np.array(ends)[:-1, 1].any(), "row 1 ended and began anew"
    assert np.abs(single.astype(int) - np.stack(frames)[:, 0]).max() <= 1
    assert told[-1][2] and ends[-1][0] and abs(told[-1][0] - rewards[0]) < 1e-3  # both truncated after five steps


def test_an_episode_that_ended_begins_anew_with_the_next_step(agent):
    envs = wd.DreamVectorEnv(agent.world, 2, sampling_steps=2, max_steps=3)
    envs.reset(seed=0)
    truncated = np.array([envs.step(np.zeros(2, int))[3].all() for _ in range(8)])
    assert truncated.tolist() == [False, False, True, False, False, False, True, False]  # the step that begins is free


def test_what_arrives_is_what_the_heads_say(agent, known):  # noqa: F811
    """The known world: the rewarded move is worth 1, others nothing; the fatal one ends every other episode."""
    envs = wd.DreamVectorEnv(agent, 64, data=known[0], context=4, sampling_steps=2)
    envs.reset(seed=0)
    rng, gained, ended = np.random.default_rng(0), {}, {}
    over = np.zeros(64, bool)
    for _ in range(12):
        moves = rng.integers(4, size=64)
        _, rewards, terminated, _, infos = envs.step(moves)
        assert infos["reward_known"].all() and infos["_value"].all() and (infos["goes_on"] <= 1).all()
        for move in range(4):
            rows = (moves == move) & ~over
            gained.setdefault(move, []).extend(rewards[rows])
            ended.setdefault(move, []).extend(terminated[rows])
        assert (rewards[over] == 0).all() and not terminated[over].any()
        over = terminated
    means = {move: np.mean(values) for move, values in gained.items()}
    assert means[REWARDED] > 0.8 and max(means[move] for move in means if move != REWARDED) < 0.15
    assert 0.25 < np.mean(ended[FATAL]) < 0.75 and np.mean(ended[0]) < 0.1


def test_it_begins_where_the_data_set_says(agent, known):  # noqa: F811
    """The first frame is the last one of a context, as the tokenizer draws it."""
    env = wd.DreamEnv(agent.world, data=known[0], context=4, sampling_steps=2)
    rng = np.random.default_rng(5)
    frame, _ = env.reset(seed=5)
    rng.integers(2**62)  # the noise of the dream is drawn first
    latents, _ = env.dreams.starts.seen([env.dreams.starts.draw(rng)])
    drawn = agent.tokenizer.stream(1).decode(latents[:, -1])[0].permute(1, 2, 0).numpy() * 255
    assert np.abs(frame - drawn).max() <= 1


def test_a_world_knows_no_rewards(agent):
    env = wd.DreamEnv(agent.world, sampling_steps=2)
    env.reset(seed=0)
    _, reward, terminated, _, info = env.step(1)
    assert reward == 0 and not terminated and info == {"reward_known": False}


def test_what_does_not_fit_is_said(agent, known):  # noqa: F811
    with pytest.raises(ConfigError, match="choose a smaller one"):
        wd.DreamEnv(agent, data=known[0], context=30)
    with pytest.raises(ConfigError, match="unknown task 'rewrd'"):
        wd.DreamEnv(agent, task="rewrd")
    with pytest.raises(ConfigError, match=r"give a wd\.Agent"):
        wd.DreamEnv(agent.world, task="reward")
    with pytest.raises(ConfigError, match="max_steps is 0"):
        wd.DreamEnv(agent, max_steps=0)
    with pytest.raises(gymnasium.error.ResetNeeded):
        wd.DreamEnv(agent).step(0)


@pytest.mark.parametrize("space", [
    spaces.Discrete(4), spaces.Discrete(3, start=-1), spaces.MultiBinary(5), spaces.MultiDiscrete([2, 3]),
    spaces.Box(-1, 1, (2,), np.float32), spaces.Box(-np.inf, 2, (3,), np.float32),
    spaces.Dict({"arm": spaces.Dict({"x": spaces.Box(0, 1, (1,), np.float32), "grip": spaces.Discrete(2)}),
                 "camera": spaces.Discrete(5)})])
def test_the_action_space_is_the_environments(space):
    spec = ActionSpec.from_space(space)
    made = space_of(spec)
    assert made == space and ActionSpec.from_space(made) == spec
    flat = spec.flatten(made.sample())
    assert all(torch.from_numpy(np.atleast_1d(value)).isfinite().all() for value in flat.values())


def test_a_row_put_aside_goes_on_exactly_and_a_row_that_pauses_stays(agent):
    """Pictures, values and the agent's own choices; the other row goes on as if nothing had happened."""
    def played(pauses, back):
        rows = DreamRows(agent, 2, sampling_steps=2)
        rows.begin(torch.arange(2), torch.tensor([3, 4]))
        rows.pictures()
        shown, kept = [], None
        for step in range(6):
            if back and step == 2:
                kept = rows.state(0)
            if back and step == 4:
                rows.load(0, kept)
            active = torch.tensor([True, not (pauses and step in (1, 2))])
            rows.step(rows.chosen(), active)
            shown.append((rows.pictures(active), rows.judged().value))
        return shown

    plain, back, paused = played(False, False), played(False, True), played(True, False)
    for step, then in ((4, 2), (5, 3)):  # again what came after it was put aside
        assert np.array_equal(back[step][0][0], plain[then][0][0]) and back[step][1][0] == plain[then][1][0]
        assert np.array_equal(back[step][0][1], plain[step][0][1])
    for step, then in ((3, 1), (4, 2), (5, 3)):
        assert np.abs(paused[step][0][1].astype(int) - plain[then][0][1]).max() <= 1
        assert np.array_equal(paused[step][0][0], plain[step][0][0])
