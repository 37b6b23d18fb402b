"""Laws of ViZDoom's basic: reproducible from its seed, rewards and ends as the game counts them, a player that hits."""

import numpy as np
import pytest

gymnasium = pytest.importorskip("gymnasium")
vizdoom = pytest.importorskip("vizdoom")

from gymnasium.utils.env_checker import check_env  # noqa: E402

from wakedream.environments.doom import LEVELS, SHOOT, STILL, DoomEnv, DoomPlayer  # noqa: E402
from wakedream.environments.play import play_episode  # noqa: E402

LEFT, STEPS = 1, 75


@pytest.fixture(scope="module")
def envs(tmp_path_factory):
    """Two, whose engine leaves its settings in the folder in which it is started."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("doom"))
        pair = DoomEnv(), DoomEnv((48, 80))
    yield pair
    for env in pair:
        env.close()


def test_it_is_a_gymnasium_environment_whose_frames_are_the_callers_own(envs):
    check_env(envs[0], skip_render_check=True)
    assert envs[1].reset(seed=0)[0].shape == (48, 80, 3)
    first, _ = envs[0].reset(seed=0)
    kept = first.copy()
    for _ in range(5):
        envs[0].step(LEFT)
    assert (first == kept).all()


def test_the_same_seed_and_actions_are_the_same_episode(envs):
    env, rng = envs[0], np.random.default_rng(0)
    actions = rng.integers(4, size=40)

    def played(seed):
        frames, rewards = [env.reset(seed=seed)[0]], []
        for action in actions:
            frame, reward, terminated, _, _ = env.step(int(action))
            frames.append(frame)
            rewards.append(reward)
            if terminated:
                break
        return np.stack(frames), rewards

    one, other = played(3), played(3)
    assert (one[0] == other[0]).all() and one[1] == other[1]
    assert not (played(4)[0][0] == one[0][0]).all()


def test_a_step_costs_4_a_shot_5_more_and_the_limit_truncates(envs):
    env = envs[0]
    env.reset(seed=0)
    ends = [env.step(STILL) for _ in range(STEPS)]
    assert [end[1] for end in ends[:-1]] == [-4] * (STEPS - 1)
    assert [end[2:4] for end in ends] == [(False, False)] * (STEPS - 1) + [(False, True)]
    assert not any(end[4]["events"]["hit"] for end in ends)
    env.reset(seed=1)
    env.aside = 0
    while abs(env.aside) < 60:
        env.step(LEFT)
    assert {env.step(SHOOT)[1] for _ in range(10)} == {-4, -9}


def test_what_hits_terminates_and_is_the_event(envs):
    for seed in range(20):
        frame, _ = envs[0].reset(seed=seed)
        player = DoomPlayer(envs[0], np.random.default_rng(seed), 0.0)
        for _ in range(STEPS):
            frame, reward, terminated, truncated, info = envs[0].step(player(frame))
            assert info["events"] == {"hit": terminated} and not truncated
            assert (reward > 90) == terminated
            if terminated:
                break
        assert terminated


def test_a_clone_goes_on_as_the_other_does(envs):
    one, other, rng = envs[0], DoomEnv(), np.random.default_rng(1)
    one.reset(seed=5)
    other.reset(seed=6)
    for action in rng.integers(3, size=12):
        one.step(int(action))
    other.become(one)
    assert (one.render() == other.render()).all()
    for action in rng.integers(3, size=12):
        here, there = one.step(int(action)), other.step(int(action))
        assert (here[0] == there[0]).all() and here[1:] == there[1:]
    other.close()


def test_players_of_varied_skill(envs):
    returns = {}
    for policy in ("random", "scripted"):
        episodes = [play_episode("doom", envs[0], policy, 0, index) for index in range(60)]
        returns[policy] = np.mean([episode.rewards.sum() for episode in episodes])
        assert all(episode.events["hit"].sum() == episode.terminated for episode in episodes)
    assert {episode.info["epsilon"] for episode in episodes} == {level for level, _ in LEVELS}
    assert returns["random"] < -80 and -60 < returns["scripted"] < 60
