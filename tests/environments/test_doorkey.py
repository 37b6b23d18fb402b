"""Laws of DoorKey: MiniGrid's game to the pixel, events at their frames, an end only at the goal, a player that gets
there."""

import itertools
from collections import deque

import numpy as np
import pytest

gymnasium = pytest.importorskip("gymnasium")
minigrid = pytest.importorskip("minigrid")

from gymnasium.utils.env_checker import check_env  # noqa: E402

from wakedream.environments.bursts import Bursts  # noqa: E402
from wakedream.environments.doorkey import LEVELS, TIME_LIMIT, DoorKeyEnv, DoorKeyPlayer, shortest  # noqa: E402
from wakedream.environments.pixels import resize  # noqa: E402
from wakedream.environments.play import play_episode  # noqa: E402

LEFT, RIGHT, DROP, TOGGLE, NOOP = 0, 1, 4, 5, 6


def upstream(cells=6):
    name = f"MiniGrid-DoorKey-{cells}x{cells}-v0"
    return gymnasium.make(name, max_steps=TIME_LIMIT, disable_env_checker=True).unwrapped


def seen(game, size=(64, 64), tile=32):
    return resize(game.get_frame(highlight=False, tile_size=tile), size)


@pytest.mark.parametrize(("epsilon", "cells"), [(0.0, 6), (0.5, 6), (0.75, 6), (1.0, 6), (0.5, 5)])
def test_it_is_minigrids_game_to_the_pixel_and_tells_what_happens_where_it_happens(epsilon, cells):
    game, came = upstream(cells), set()
    envs = [DoorKeyEnv(cells=cells), DoorKeyEnv((192, 96), cells)]
    for seed, env in itertools.product(range(4), envs):
        size = env.size
        frame, info = env.reset(seed=seed)
        game.reset(seed=seed)
        assert env.observation_space.contains(frame) and (frame == seen(game, size, env.tile)).all()
        assert not any(info["events"].values())
        player, over = DoorKeyPlayer(env, np.random.default_rng(seed), epsilon), False
        while not over:
            action = player(frame)
            door = next(thing for thing in game.grid.grid if thing and thing.type == "door")
            had, open_before = game.carrying, door.is_open
            frame, reward, terminated, truncated, info = env.step(action)
            _, expected, over, ended, _ = game.step(action)
            assert (frame == seen(game, size, env.tile)).all()
            assert (reward, terminated, truncated) == (expected, over, ended and not over)
            assert info["events"] == {"key": game.carrying is not None and had is None,
                                      "door": door.is_open and not open_before, "goal": over}
            came |= {name for name, value in info["events"].items() if value}
            over = over or ended
    assert came == {"key", "door", "goal"} or epsilon == 1


def test_it_is_a_gymnasium_environment_whose_frames_are_the_callers_own():
    check_env(DoorKeyEnv(), skip_render_check=True)


def test_only_the_goal_terminates_and_the_limit_truncates():
    env = DoorKeyEnv()
    env.reset(seed=0)
    ends = [env.step(NOOP)[1:4] for _ in range(TIME_LIMIT)]
    assert ends == [(0, False, False)] * 99 + [(0, False, True)]
    env.reset(seed=0)
    way = shortest(env)
    ends = [env.step(action)[1:4] for action in [NOOP] * (TIME_LIMIT - len(way)) + way]  # both at once: it is the goal
    assert ends == [(0, False, False)] * 99 + [(pytest.approx(0.1), True, False)]


def test_an_episode_has_its_events_and_its_reward_at_their_frames():
    env, found = DoorKeyEnv(), 0
    for index in range(30):
        episode = play_episode("doorkey", env, "scripted", 0, index)
        assert set(episode.events) == {"key", "door", "goal"}
        assert episode.info["epsilon"] in dict(LEVELS)
        assert len(episode.video) == TIME_LIMIT + 1 or episode.terminated
        goal = episode.events["goal"]
        assert goal.sum() == episode.terminated == goal[-1]
        assert ((episode.rewards > 0) == goal).all() and episode.has_reward[1:].all()
        if episode.terminated:
            steps = len(episode.video) - 1
            assert episode.rewards[-1] == pytest.approx(1 - 0.9 * steps / TIME_LIMIT)
            assert np.argmax(episode.events["key"]) < np.argmax(episode.events["door"]) < steps
        found += episode.terminated
    assert 15 < found < 30


def test_without_noise_the_player_always_gets_there():
    env = DoorKeyEnv()
    for seed in range(150):
        frame, _ = env.reset(seed=seed)
        player, steps, over = DoorKeyPlayer(env, np.random.default_rng(0), 0.0), len(shortest(env)), False
        assert steps < 30
        for _ in range(steps):
            assert not over
            frame, _, over, _, _ = env.step(player(frame))
        assert over


def test_it_gets_there_from_wherever_chance_has_led():
    """The key dropped anywhere, the door shut again."""
    env, rng, odd = DoorKeyEnv(), np.random.default_rng(0), 0
    for seed in range(60):
        env.reset(seed=seed)
        for action in shortest(env)[:-1]:
            env.step(action)
        for action in rng.integers(7, size=40):
            if env.step(int(action))[2]:
                break
        else:
            odd += env.game.carrying is None or not env.door.is_open
            assert [env.step(action)[2] for action in shortest(env)][-1]
    assert odd > 5


def test_a_door_that_was_unlocked_needs_no_key_any_more():
    env, met = DoorKeyEnv(), 0
    for seed in range(20):
        env.reset(seed=seed)
        way = shortest(env)
        for action in way[:way.index(TOGGLE) + 1]:
            env.step(action)
        for action in (LEFT, DROP, RIGHT, TOGGLE):
            env.step(action)
        if env.game.carrying is None:  # there was room for it
            assert not env.door.is_open and shortest(env)[0] == TOGGLE
            met += 1
    assert met > 3


@pytest.mark.parametrize("seed", [0, 3])
def test_no_way_is_shorter(seed):
    """Breadth first in MiniGrid itself, with every action."""
    env, other = DoorKeyEnv(), DoorKeyEnv()
    env.reset(seed=seed)
    other.reset(seed=seed + 1)
    expected = len(shortest(env))
    known, waiting = set(), deque([(env, 0)])
    while waiting:
        at, steps = waiting.popleft()
        for action in range(6):
            after = DoorKeyEnv()
            after.reset(seed=seed + 1)
            after.become(at)
            if after.step(action)[2]:
                assert steps + 1 == expected
                return
            state = (after.game.hash(), after.game.carrying is not None)
            if state not in known:
                known.add(state)
                waiting.append((after, steps + 1))


def test_a_clone_goes_on_as_the_other_does_and_leaves_it_alone():
    one, other, rng = DoorKeyEnv(), DoorKeyEnv(), np.random.default_rng(0)
    one.reset(seed=5)
    other.reset(seed=6)
    for action in shortest(one)[:-2]:
        one.step(action)
    other.become(one)
    assert (other.render() == one.render()).all()
    assert one.game.carrying is not None
    for action in (DROP, *rng.integers(7, size=60)):
        here, there = one.step(int(action)), other.step(int(action))
        assert (here[0] == there[0]).all() and here[1:] == there[1:]
    before = one.render().copy()
    other.reset(seed=6)
    assert (one.step(NOOP)[0] == before).all()


def test_random_steps_take_their_share():
    for epsilon in (0.0, 0.1, 0.5, 0.75, 1.0):
        bursts, taken = Bursts(epsilon, np.random.default_rng(1)), []
        for _ in range(20_000):
            bursts.begins()
            taken.append(bursts.lasts())
        assert np.mean(taken) == pytest.approx(epsilon, abs=0.02)
        lengths = [len(list(group)) for is_random, group in itertools.groupby(taken) if is_random]
        assert not lengths or np.mean(lengths) > 8  # two may touch


def test_a_mixed_recording_wins_often_and_loses_often():
    env = DoorKeyEnv()
    wins = {policy: np.mean([play_episode("doorkey", env, policy, 0, index).terminated for index in range(100)])
            for policy in ("random", "scripted", "scripted:0.6,random:0.4")}
    assert wins["random"] < 0.1
    assert 0.6 < wins["scripted"] < 0.95
    assert 0.3 < wins["scripted:0.6,random:0.4"] < 0.6
