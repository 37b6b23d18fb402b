"""Laws of the Crafter adapter: upstream's game to the pixel, one seed one story, death is no time limit."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

crafter = pytest.importorskip("crafter")
gymnasium = pytest.importorskip("gymnasium")

from crafter import constants  # noqa: E402

from wakedream.environments.crafter.engine import OrderedWorld  # noqa: E402
from wakedream.environments.crafter.env import CrafterEnv  # noqa: E402
from wakedream.environments.crafter.noise import NoisyPlayer  # noqa: E402
from wakedream.environments.crafter.player import AIMS  # noqa: E402
from wakedream.environments.play import play_episode  # noqa: E402
from wakedream.environments.registry import BUILT_IN  # noqa: E402

ROOT = Path(__file__).parents[2]
STORY = """
import hashlib, sys
from wakedream.environments.registry import environment
from wakedream.environments.play import play_episode
padding = [object() for _ in range(int(sys.argv[1]))]
env = environment("crafter").make(None)
episode = play_episode("crafter", env, "scripted", seed=5, index=2, max_frames=260)
print(hashlib.sha256(episode.video.tobytes() + episode.rewards.tobytes()).hexdigest())
"""


def test_a_seed_tells_the_same_story_in_every_process():
    stories = {subprocess.run([sys.executable, "-c", STORY, padding], capture_output=True, text=True,
                              check=True, cwd=ROOT).stdout for padding in ("0", "12345")}
    assert len(stories) == 1


def test_every_action_is_known_by_crafters_own_name():
    for name, action in BUILT_IN["crafter"].names.items():
        assert constants.actions[action].removeprefix("move_").removeprefix("make_").replace("_", " ") == name


def test_creatures_of_a_chunk_keep_the_order_in_which_they_came():
    env = CrafterEnv()
    env.reset(seed=0)
    world = env.simulator.world
    numbers = {other: number for number, other in enumerate(world._objects)}
    chunks = [[numbers[other] for other in chunk] for chunk in world.chunks.values()]
    assert max(map(len, chunks)) > 3
    assert all(chunk == sorted(chunk) for chunk in chunks)


@pytest.mark.parametrize(("seed", "size"), [(3, 64), (8, 96)])
def test_the_quick_simulator_is_upstreams_to_the_pixel(seed, size):
    """Day, night and sleep; upstream with nothing changed but the order of its sets."""
    upstream = crafter.Env(size=(size, size), seed=seed)
    upstream._world = OrderedWorld(upstream._area, constants.materials, (12, 12))
    upstream._local_view._world = upstream._sem_view._world = upstream._world
    quick = CrafterEnv(size)
    player = NoisyPlayer(quick.simulator, np.random.default_rng(0), epsilon=0.05)
    frame, _ = quick.reset(seed=seed)
    assert (frame == upstream.reset()).all()
    dark = slept = 0
    for _ in range(280):
        action = player(frame)
        frame, reward, dead, _, info = quick.step(action)
        expected, expected_reward, over, expected_info = upstream.step(action)
        assert (frame == expected).all()
        assert reward == expected_reward
        assert dead == over
        assert info["achievements"] == expected_info["achievements"]
        dark += info["extras"]["daylight"] < 0.4
        slept += quick.simulator.player.sleeping
        if dead:
            break
    assert dark > 5
    assert slept > 5


def test_frames_at_the_edge_of_the_map_are_upstreams():
    upstream, quick = crafter.Env(seed=1), CrafterEnv()
    upstream.reset(), quick.reset(seed=1)
    for place in ((0, 0), (63, 63), (2, 60), (32, 0)):
        for env in (upstream, quick.simulator):
            env._world.move(env._player, place)
            env._world.daylight = 1.0
        assert (upstream.render() == quick.simulator.render()).all()


def test_death_terminates_and_the_time_limit_truncates():
    env = CrafterEnv(length=5)
    env.reset(seed=0)
    ends = [env.step(0)[2:4] for _ in range(5)]
    assert ends == [(False, False)] * 4 + [(False, True)]
    env.reset(seed=0)
    env.simulator.player.inventory["health"] = 0
    for _ in range(4):
        assert env.step(0)[2:4] == (True, False)
    assert env.step(0)[2:4] == (True, False)  # both at once: it is a death


def test_the_adapter_is_a_gymnasium_environment_with_daylight():
    env = CrafterEnv()
    frame, info = env.reset(seed=4)
    assert env.observation_space.contains(frame)
    assert env.action_space.n == 17
    day = [info["extras"]["daylight"]]
    day += [env.step(0)[4]["extras"]["daylight"] for _ in range(100)]
    assert min(day) >= 0
    assert max(day) == pytest.approx(1, abs=0.01)
    other, _ = env.reset(seed=5)
    assert (other != frame).any()
    assert (env.reset(seed=4)[0] == frame).all()
    episode = play_episode("crafter", env, "random", seed=0, index=0, max_frames=20)
    assert episode.extras["daylight"].shape == (20,)
    assert episode.extras["daylight"].dtype == np.float32
    assert set(episode.info["achievements"]) == set(constants.achievements)


def test_the_counts_beside_a_frame_are_those_that_are_drawn_in_it():
    """Upstream draws the inventory of the extras, and it is the lower part of the frame."""
    env = CrafterEnv()
    episode = play_episode("crafter", env, "scripted", seed=3, index=0, max_frames=250)
    counts = {name: values for name, values in episode.extras.items() if name != "daylight"}
    assert set(counts) == set(constants.items)
    assert all(values.dtype == np.float32 for values in counts.values())
    draw = crafter.engine.ItemView(env.simulator._textures, (9, 2))
    for t, frame in enumerate(episode.video):
        drawn = draw({name: int(counts[name][t]) for name in constants.items}, (7, 7))
        assert (drawn.transpose(1, 0, 2) == frame[49:63, :63]).all(), t
    came = int(episode.events["collect_sapling"].argmax())
    assert counts["sapling"][came - 1:came + 1].tolist() == [0, 1]
    assert sum(len(set(values)) > 1 for values in counts.values()) > 10


def test_an_event_is_an_achievement_that_is_unlocked_for_the_first_time():
    env, before, unlocked = CrafterEnv(), set(), []
    frame, info = env.reset(seed=0)
    assert set(info["events"]) == set(constants.achievements)
    assert not any(info["events"].values())
    player = NoisyPlayer(env.simulator, np.random.default_rng(0), 0.0)
    for _ in range(120):
        frame, reward, _, _, info = env.step(player(frame))
        now = {name for name, count in info["achievements"].items() if count > 0}
        came = {name for name, happened in info["events"].items() if happened}
        assert came == now - before
        assert (reward > 0.5) == bool(came)
        before, unlocked = now, unlocked + list(came)
    assert len(unlocked) == len(set(unlocked)) > 5
    assert any(info["achievements"][name] > 1 for name in unlocked)  # again, and no event
    assert not any(env.reset(seed=0)[1]["events"].values())
    episode = play_episode("crafter", env, "scripted", seed=0, index=0, max_frames=60)
    assert {name for name, values in episode.events.items() if values.any()} == {
        name for name, count in episode.info["achievements"].items() if count > 0}


def test_a_clone_goes_on_with_the_same_events():
    one, other = CrafterEnv(), CrafterEnv()
    frame, _ = one.reset(seed=0)
    player = NoisyPlayer(one.simulator, np.random.default_rng(0), 0.0)
    for _ in range(30):
        frame, *_ = one.step(player(frame))
    other.become(one)
    for _ in range(30):
        action = player(frame)
        frame, _, _, _, info = one.step(action)
        assert other.step(action)[4]["events"] == info["events"]


def achieved(env: CrafterEnv, seed: int, steps: int, epsilon: float = 0.0, aim: str | None = None) -> dict[str, int]:
    """How often each achievement came."""
    frame, info = env.reset(seed=seed)
    player, over = NoisyPlayer(env.simulator, np.random.default_rng(seed), epsilon, aim), False
    for _ in range(steps):
        if not over:
            frame, _, over, _, info = env.step(player(frame))
    return info["achievements"]


def reached(env: CrafterEnv, seed: int, epsilon: float) -> int:
    """Achievements within 250 steps."""
    return sum(count > 0 for count in achieved(env, seed, 250, epsilon).values())


def test_the_player_reaches_what_chance_does_not():
    env = CrafterEnv()
    assert min(reached(env, seed, epsilon=0.0) for seed in (0, 1)) >= 12
    assert max(reached(env, seed, epsilon=1.0) for seed in (0, 1)) <= 8


@pytest.mark.parametrize("aim", AIMS)
def test_a_specialist_does_one_thing_again_and_again(aim: str):
    env = CrafterEnv()
    assert achieved(env, 2, 200, aim=aim)[aim] > achieved(env, 2, 200)[aim]


def test_specialists_share_a_recording_with_others():
    players = set()
    env = CrafterEnv()
    for index in range(16):
        info = play_episode("crafter", env, "scripted:0.2,specialist:0.5,random:0.3", seed=0, index=index,
                            max_frames=3).info
        players.add((info["policy"], info.get("aim")))
    assert {("scripted", None), ("random", None)} < players
    assert len({aim for policy, aim in players if policy == "specialist"} & set(AIMS)) > 3


def test_the_noise_takes_its_share():
    env = CrafterEnv()
    env.reset(seed=0)
    for epsilon in (0.0, 0.1, 0.3, 1.0):
        player = NoisyPlayer(env.simulator, np.random.default_rng(1), epsilon)
        player.player = _Never()  # type: ignore[assignment]
        share = np.mean([player(env.frame) != -1 for _ in range(4000)])
        assert share == pytest.approx(epsilon, abs=0.05)
        assert player.info["epsilon"] == epsilon


class _Never:
    def __call__(self) -> int:
        return -1

    def interrupted(self) -> None:
        pass
