"""Laws of cart-pole swing-up: dm_control's physics and reward, frames that follow from the state alone, an end by time
alone, a player that gets up from anywhere."""

import hashlib
import itertools
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

gymnasium = pytest.importorskip("gymnasium")

from gymnasium.utils.env_checker import check_env  # noqa: E402

from wakedream.environments.play import play_episode  # noqa: E402
from wakedream.environments.policies import Random  # noqa: E402
from wakedream.environments.registry import environment  # noqa: E402
from wakedream.environments.swingup.env import HELD, TIME_LIMIT, UPRIGHT, SwingUpEnv, reward_of  # noqa: E402
from wakedream.environments.swingup.player import LEVELS, SwingUpPlayer, best  # noqa: E402
from wakedream.errors import MissingExtraError  # noqa: E402

ROOT = Path(__file__).parents[2]
STORY = """
from test_swingup import story
print(story())
"""
# dm_control 1.0.50 (MuJoCo 3.17) from STATE under PUSHES, each for four steps: place, angle, speed, spin after so many,
# and the sum of the rewards until then, of every four the mean
STATE, PUSHES = ((0.02, 3.1), (0.01, -0.02)), [0.9 * math.sin(step / 5) for step in range(100)]
DM_CONTROL = {
    5: (0.062788402, 3.165518363, 0.668905275, 1.012029979, 0.001253747),
    25: (1.856559746, 3.649733612, -0.273597876, -5.697131528, 1.695225064),
    50: (1.855681954, -2.081829728, -0.090718584, -8.814586415, 6.623455892),
    100: (-1.328427314, -12.380596606, -2.176061367, 0.23154548, 27.71348854),
}

try:
    environment("swingup").make(None).close()
except MissingExtraError as error:
    pytest.skip(str(error), allow_module_level=True)


@pytest.fixture
def env():
    made = SwingUpEnv()
    yield made
    made.close()


@pytest.fixture
def blind(env):
    """Draws nothing, which is most of the time that a step takes."""
    env.scene.draw = lambda: env.frame
    return env


def force(value):
    return np.array([value], np.float32)


def played(env, make, seed, steps=TIME_LIMIT):
    """The return, and whether it balanced."""
    frame, _ = env.reset(seed=seed)
    player = make(env, np.random.default_rng(seed))
    steps = [env.step(player(frame)) for _ in range(steps)]
    return sum(step[1] for step in steps), any(step[4]["events"]["balanced"] for step in steps)


def story():
    env = environment("swingup").make(None)
    episode = play_episode("swingup", env, "scripted:0.85,random:0.15", seed=5, index=2, max_frames=60)
    env.close()
    return hashlib.sha256(episode.video.tobytes() + episode.rewards.tobytes()
                          + episode.actions["action"].tobytes()).hexdigest()


def test_physics_and_reward_are_dm_controls(blind):
    blind.reset(seed=0)
    blind.scene.place(*map(np.array, STATE))
    total, seen = 0.0, {}
    for step, push in enumerate(PUSHES, 1):
        total += blind.step(np.array([push]))[1]
        seen[step] = (*blind.state, total)
    for step, expected in DM_CONTROL.items():
        assert seen[step] == pytest.approx(expected, rel=1e-6)


def test_the_reward_is_known_from_the_state_and_the_force():
    assert reward_of((0, 0, 9, 0), 0) == 1
    assert reward_of((0, 2 * math.pi, 0, 0), 0) == 1
    assert reward_of((0, math.pi, 0, 0), 0) == pytest.approx(0)
    assert reward_of((0, math.pi / 2, 0, 0), 0) == pytest.approx(0.5)
    assert reward_of((0, 0, 0, 0), 1) == reward_of((0, 0, 0, 0), -1) == pytest.approx(0.8)
    assert reward_of((2, 0, 0, 0), 0) == reward_of((0, 0, 0, -5), 0) == pytest.approx(0.55)


def test_it_is_a_gymnasium_environment_whose_frames_are_the_callers_own(env):
    check_env(env, skip_render_check=True)
    assert env.reset(seed=0)[0].flags.writeable


def test_only_time_ends_an_episode(env):
    env.scene.draw = lambda: env.frame
    env.reset(seed=0)
    ends = [env.step(force(1.0))[2:4] for _ in range(TIME_LIMIT)]
    assert ends == [(False, False)] * (TIME_LIMIT - 1) + [(False, True)]


def test_a_force_beyond_the_bounds_is_the_bound(blind):
    seen = []
    for push in (1.0, 7.0):
        blind.reset(seed=3)
        seen.append((blind.step(force(push))[1], blind.state))
    assert seen[0] == seen[1]


def test_frames_follow_from_the_state_alone(env):
    """And drawing changes nothing."""
    states = [(place, angle) for place in (-1.8, 0.3, 1.8) for angle in (0.0, 2.0, math.pi)]
    first = {}
    for state in (*states, *reversed(states)):
        env.scene.place(np.array(state), np.random.default_rng(0).normal(size=2))
        frame = env.scene.draw()
        assert (frame == first.setdefault(state, frame)).all()
    assert all((first[one] != first[other]).any() for one, other in itertools.combinations(states, 2))
    drawn, blind = SwingUpEnv(), SwingUpEnv()
    blind.scene.draw = lambda: blind.frame
    for each in (drawn, blind):
        each.reset(seed=1)
        for push in PUSHES[:20]:
            each.step(force(push))
    assert drawn.state == blind.state
    drawn.close(), blind.close()


def test_cart_and_pole_are_seen_wherever_they_are(env):
    """Both are redder than blue, nothing else is; the cart to the ends of its rail, the pole as long at every angle."""
    def red(place, angle):
        env.scene.place(np.array([place, angle]), np.zeros(2))
        frame = env.scene.draw().astype(int)
        return frame[:, :, 0] > frame[:, :, 2] + 20

    for place in np.linspace(-1.95, 1.95, 9):
        columns = np.flatnonzero(red(place, 0.0).any(0))
        assert np.mean(columns) == pytest.approx(31.5 + 14 * place, abs=1.0)
        assert len(columns) >= 4
    upright, hanging, across = (red(0.0, angle) for angle in (0.0, math.pi, math.pi / 2))
    for rows in (np.flatnonzero(upright.any(1)), np.flatnonzero(hanging.any(1)), np.flatnonzero(across.any(0))):
        assert 15 <= len(rows) <= 20


@pytest.mark.parametrize("size", [(48, 96), (32, 32)])
def test_frames_have_the_size_that_was_asked_for(size):
    env = environment("swingup").make(size)
    frame, _ = env.reset(seed=0)
    assert frame.shape == (*size, 3) and env.observation_space.contains(frame)
    env.close()


def test_a_seed_tells_the_same_story_in_every_process():
    path = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    there = subprocess.run([sys.executable, "-c", STORY], capture_output=True, text=True, check=True, cwd=ROOT,
                           env={**os.environ, "PYTHONPATH": path}).stdout.strip()
    assert there == story()


def test_worlds_of_other_seeds_are_others(blind):
    states = {blind.reset(seed=seed) and blind.state for seed in range(5)}
    assert len(states) == 5
    assert all(abs(place) < 0.1 and abs(angle - math.pi) < 0.1 for place, angle, _, _ in states)


def test_a_clone_goes_on_as_the_other_does_and_leaves_it_alone(env):
    other, rng = SwingUpEnv(), np.random.default_rng(0)
    env.reset(seed=5)
    other.reset(seed=6)
    while env.stood < HELD - 3 and env.steps < TIME_LIMIT:
        env.step(force(best(env.state)))
    other.become(env)
    assert (other.render() == env.render()).all() and other.state == env.state
    pushes = [best(env.state), *rng.uniform(-1, 1, 30)]
    states, balanced = [], 0
    for push in pushes:
        here, there = env.step(force(push)), other.step(force(push))
        assert (here[0] == there[0]).all() and here[1:] == there[1:]
        assert env.state == other.state
        balanced += here[4]["events"]["balanced"]
        states.append(env.state)
    assert balanced == 1
    other.reset(seed=6)
    assert env.state == states[-1]
    other.close()


def test_an_episode_has_its_event_where_the_pole_has_stood_for_a_second(blind):
    found = 0
    for index in range(12):
        episode = play_episode("swingup", blind, "scripted", 0, index)
        assert set(episode.events) == {"balanced"} and len(episode.video) == TIME_LIMIT + 1
        assert not episode.terminated and episode.truncated and episode.has_reward[1:].all()
        assert (episode.info["skill"], episode.info["epsilon"]) in dict(LEVELS)
        assert ((episode.rewards >= 0) & (episode.rewards <= 1)).all()
        for end in np.flatnonzero(episode.events["balanced"]):
            upright = episode.rewards[end - HELD + 1:end + 1]
            assert (upright > (UPRIGHT + 1) / 2 * 0.55 * 0.8 * 0.55).all()
        found += episode.events["balanced"].any()
    assert 3 < found < 12


def test_the_player_gets_up_from_anywhere(blind):
    for seed, (place, angle) in enumerate(itertools.product((-1.5, 0.0, 1.5), np.linspace(0, 6, 7))):
        blind.reset(seed=seed)
        blind.scene.place(np.array([place, angle]), np.random.default_rng(seed).uniform(-3, 3, 2))
        balanced = [blind.step(force(best(blind.state)))[4]["events"]["balanced"] for _ in range(TIME_LIMIT)]
        assert any(balanced), (place, angle)
        assert math.cos(blind.state[1]) > 0.999 and abs(blind.state[0]) < 0.3


def test_it_gets_up_again_after_random_bursts(blind):
    def fell_and_rose(seed):
        blind.reset(seed=seed)
        player, times = SwingUpPlayer(blind, np.random.default_rng(seed), 1.0, 0.15), 0
        for _ in range(TIME_LIMIT):
            times += blind.step(player(blind.frame))[4]["events"]["balanced"]
        return times > 1

    assert sum(fell_and_rose(seed) for seed in range(20)) > 2


def test_without_skill_forces_are_inexact_and_go_on_too_long(blind):
    for skill in (1.0, 0.6):
        blind.reset(seed=0)
        player, exact, taken = SwingUpPlayer(blind, np.random.default_rng(0), skill), 0, []
        for _ in range(100):
            taken.append(float(player(blind.frame)[0]))
            exact += taken[-1] == pytest.approx(np.clip(best(blind.state), -1, 1)) and abs(taken[-1]) < 1
            blind.step(force(taken[-1]))
        held = np.mean([one == other for one, other in itertools.pairwise(taken) if abs(one) < 1])
        assert (held > 0.2, exact > 30) == ((False, True) if skill == 1 else (True, False))


def test_skill_pays_and_a_mixed_recording_earns_about_half_of_the_best(blind):
    earned = {level: np.mean([played(blind, lambda env, rng, level=level: SwingUpPlayer(env, rng, *level), seed)[0]
                              for seed in range(12)]) for level in dict(LEVELS)}
    by_chance = np.mean([played(blind, Random, seed)[0] for seed in range(12)])
    assert list(earned.values()) == sorted(earned.values(), reverse=True)
    assert earned[1.0, 0.0] > 190
    assert by_chance < 40
    mixed = np.mean([play_episode("swingup", blind, "scripted:0.85,random:0.15", 0, index).rewards.sum()
                     for index in range(60)])
    assert 0.4 < mixed / earned[1.0, 0.0] < 0.65


def test_where_nothing_can_be_drawn_it_says_what_to_install():
    code = "from wakedream.environments.registry import environment; environment('swingup').make(None)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT,
                         env={**os.environ, "MUJOCO_GL": "nothing"})
    assert "MissingExtraError: swingup cannot draw without a screen (MUJOCO_GL is nothing; " in ran.stderr
    assert "libegl1" in ran.stderr


def test_it_needs_no_variable_to_be_set():
    code = ("from wakedream.environments.registry import environment\n"
            "assert environment('swingup').make(32).reset(seed=0)[0].any()")
    before = {name: value for name, value in os.environ.items() if name != "MUJOCO_GL"}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env=before)
