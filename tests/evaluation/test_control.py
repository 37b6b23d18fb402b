"""Laws of branching real environments, and of the measure of obedience taken against them."""

import dataclasses
import importlib.util
import json

import numpy as np
import pytest
import torch

from wakedream.environments.registry import environment
from wakedream.errors import ConfigError, DataError
from wakedream.evaluation.dynamics.branching import SAME, Branches, _groups, branches, recorded_seeds
from wakedream.evaluation.dynamics.control import control

ENVIRONMENTS = [
    pytest.param(name, marks=pytest.mark.skipif(not importlib.util.find_spec(module), reason=f"needs {module}"))
    for name, module in (("crafter", "crafter"), ("coinrun", "envpool"))
]
CONTEXT = 6


@pytest.fixture(scope="module")
def made():
    """Branches by environment, each made once; some of the contexts are an episode's first frames."""
    cache: dict[str, Branches] = {}

    def make(name: str) -> Branches:
        if name not in cache:
            cache[name] = branches(name, 12, CONTEXT, hold=3, seed=1)
        return cache[name]

    return make


def replayed(name, origin, then=()):
    """Frames of an environment of its own, from the reset through all actions."""
    env = environment(name).make(None)
    seed, taken = origin
    frames = [np.array(env.reset(seed=seed)[0])]
    frames += [np.array(env.step(action)[0]) for action in (*taken, *then)]
    return np.stack(frames)


# Branching


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_outcomes_are_what_the_environment_does_when_played_from_the_start(name, made):
    found = made(name)
    actions = environment_commands(found)
    for i in (0, 11):
        k = 1 + i % (len(found.commands) - 1)
        frames = replayed(name, found.origins[i], [actions[k]] * 3)
        assert (frames[-3:] == found.outcomes[i, k]).all()
        assert (frames[-3 - CONTEXT : -3] == found.contexts[i]).all()


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_actions_are_those_that_led_into_each_frame(name, made):
    found = made(name)
    for i, (_, taken) in enumerate(found.origins):
        led = [-1, *taken][-CONTEXT:]
        assert found.has_action[i].tolist() == [action != -1 for action in led]
        assert found.actions["action"][i].tolist() == [max(action, 0) for action in led]


def environment_commands(found: Branches) -> list[int]:
    return [int(action) for action in found.held["action"]]


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_what_becomes_another_goes_its_own_way(name):
    """The one that is copied does not notice; copies of one moment agree."""
    env, twin, third = (environment(name).make(None) for _ in range(3))
    env.reset(seed=5)
    for _ in range(4):
        env.step(2)
    twin.become(env)
    third.become(env)
    ways = [[np.array(e.step(action)[0]) for action in (1, 1, 7, 3, 4, 1)] for e in (twin, third)]
    assert np.array_equal(ways[0], ways[1])
    after = [np.array(env.step(action)[0]) for action in (3, 4, 4, 1)]
    assert np.array_equal(after, replayed(name, (5, (2,) * 4), (3, 4, 4, 1))[-4:])


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_worlds_to_avoid_are_not_played_and_the_rest_stays(name, made):
    first = made(name)
    again = branches(name, 3, CONTEXT, hold=3, seed=1)
    assert (again.outcomes == first.outcomes[:3]).all()
    avoid = recorded_seeds([{"seed": first.origins[0][0]}, {"source": "a film"}])
    assert len(avoid) == 1
    other = branches(name, 3, CONTEXT, hold=3, seed=1, avoid=avoid)
    assert not avoid & {seed for seed, _ in other.origins}
    rest = [origin for origin in first.origins if origin[0] not in avoid]
    assert not rest or other.origins[0] == rest[0]


def test_worlds_are_not_those_of_a_recording_with_the_same_seed(made):
    pytest.importorskip("crafter")
    from wakedream.environments.play import play_episode

    env = environment("crafter").make(None)
    recorded = {play_episode("crafter", env, None, 1, index, max_frames=1).info["seed"] for index in range(2)}
    assert not recorded & {seed for seed, _ in made("crafter").origins}


def test_blocked_moves_of_crafter_are_those_that_do_not_move_the_player():
    """Also where they turn it round."""
    pytest.importorskip("crafter")
    found = branches("crafter", 20, CONTEXT, hold=1, seed=2)
    env, twin = (environment("crafter").make(None) for _ in range(2))
    world, done, turned = None, 0, 0
    for i, (seed, taken) in enumerate(found.origins):
        if seed != world:
            env.reset(seed=seed)
            world, done = seed, 0
        for action in taken[done:]:  # of one world, each begins with the one before
            env.step(action)
        done = len(taken)
        before = env.simulator.player
        for k, action in enumerate(environment_commands(found)):
            twin.become(env)
            twin.step(action)
            after = twin.simulator.player
            moved = (after.pos != before.pos).any()
            assert found.unblocked[i, k] == moved
            turned += not moved and tuple(after.facing) != tuple(before.facing)
    assert turned > 3


def test_outcomes_alike_are_joined_in_chains():
    values = np.array([0, 100, 5, 10, 104], np.uint8)  # 0 ~ 5 ~ 10, and 100 ~ 104
    outcomes = np.broadcast_to(values[:, None, None, None, None], (5, 2, 4, 4, 3))
    assert _groups(outcomes, (6 / 255) ** 2).tolist() == [0, 1, 0, 0, 1]
    assert _groups(outcomes, 0.0).tolist() == [0, 1, 2, 3, 4]


def test_bad_input_is_named():
    with pytest.raises(ConfigError, match="crafter"):
        branches("craftr", 1)
    with pytest.raises(ConfigError, match="hold -1"):
        branches("crafter", 1, hold=-1)


# Obedience


class Told:
    """A dream that shows, in each context, the outcome of the command that `choose` makes of the one given."""

    def __init__(self, known: Branches, choose):
        self.known, self.choose = known, choose

    def __call__(self, frames, actions, has_action, rows):
        contexts = frames.permute(0, 1, 3, 4, 2).numpy()
        self.rows = [next(i for i, c in enumerate(self.known.contexts) if (c == one).all()) for one in contexts]
        assert self.rows == list(range(rows.start, rows.stop))
        assert (actions["action"].numpy() == self.known.actions["action"][self.rows]).all()
        assert (has_action.numpy() == self.known.has_action[self.rows]).all()
        self.t = 0
        return self

    def step(self, actions):
        commands = environment_commands(self.known)
        given = [commands.index(int(action)) for action in actions["action"]]
        shown = [self.known.outcomes[i, self.choose(i, k), self.t] for i, k in zip(self.rows, given, strict=True)]
        self.t += 1
        return torch.from_numpy(np.stack(shown)).permute(0, 3, 1, 2).float() / 255


def drawn(n=40, groups=(0, 1, 2, 3, 4), seed=0) -> Branches:
    """Random pictures as outcomes; commands of one group share theirs."""
    random = np.random.RandomState(seed)
    outcomes = random.randint(0, 256, (n, 5, 2, 8, 8, 3)).astype(np.uint8)[:, list(groups)]
    return Branches(
        "drawn", ("noop", "left", "right", "up", "down"), random.randint(0, 256, (n, 3, 8, 8, 3)).astype(np.uint8),
        {"action": random.randint(0, 9, (n, 3))}, np.ones((n, 3), bool), outcomes,
        np.stack([_groups(one, SAME) for one in outcomes]), {"action": np.array([7, 3, 5, 1, 2])},
        ((0, ()),) * n)  # fmt: skip


class Playing:
    """A dream that is the real environment, played from its reset to the end of each context."""

    def __init__(self, known: Branches):
        self.known = known
        self.ready = []
        for seed, taken in known.origins:
            env = environment(known.environment).make(None)
            env.reset(seed=seed)
            for action in taken:
                env.step(action)
            self.ready.append(env)

    def __call__(self, frames, actions, has_action, rows):
        self.envs = []
        for one in frames.permute(0, 1, 3, 4, 2).numpy():
            row = next(i for i, c in enumerate(self.known.contexts) if (c == one).all())
            self.envs.append(environment(self.known.environment).make(None))
            self.envs[-1].become(self.ready[row])
        return self

    def step(self, actions):
        frames = [np.array(env.step(int(a))[0]) for env, a in zip(self.envs, actions["action"], strict=True)]
        return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).float() / 255


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_real_environment_obeys_itself(name, made):
    whole = made(name)
    few = {field: getattr(whole, field)[:2] for field in ("contexts", "has_action", "outcomes", "groups", "origins")}
    known = dataclasses.replace(whole, **few, actions={n: a[:2] for n, a in whole.actions.items()})
    found = control(Playing(known), known)
    assert found["counted"] > 0
    assert found["obeyed"] == 1
    assert found["psnr"] == 100


def test_a_dream_blind_to_actions_is_at_chance():
    """Whatever one outcome it shows; over all that it could show, exactly."""
    known = drawn()
    found = [control(Told(known, lambda i, k, shown=shown: shown), known) for shown in range(5)]
    assert [f["obeyed"] for f in found] == pytest.approx([0, 0.25, 0.25, 0.25, 0.25])
    assert [f["chance"] for f in found] == pytest.approx([0.2] * 5)
    assert [f["obeyed_blind"] for f in found] == [f["obeyed"] for f in found]  # as it is told of one that obeys, below
    obedient = control(Told(known, lambda i, k: k), known)
    assert (obedient["obeyed"], obedient["obeyed_blind"]) == (1, 0)
    guess = np.random.RandomState(1).randint(0, 5, 400)
    many = drawn(400)
    assert control(Told(many, lambda i, k: guess[i]), many)["obeyed"] == pytest.approx(0.2, abs=0.03)


def test_a_dream_that_mirrors_left_and_right_fails_on_these_alone():
    known = drawn()
    found = control(Told(known, lambda i, k: [0, 2, 1, 3, 4][k]), known)
    assert {name: row["obeyed"] for name, row in found["by_command"].items()} == {
        "noop": 1, "left": 0, "right": 0, "up": 1, "down": 1}  # fmt: skip
    assert found["obeyed"] == 0.5
    assert found["confusion"]["left"] == {"noop": 0, "left": 0, "right": 40, "up": 0, "down": 0}
    assert found["confusion"]["down"]["down"] == 40
    json.dumps(found, allow_nan=False)


def test_blocked_commands_do_not_count_and_equal_outcomes_count_as_one():
    known = drawn(groups=(0, 0, 2, 2, 4))  # left is blocked; right and up come to the same
    found = control(Told(known, lambda i, k: [0, 0, 3, 2, 0][k]), known)
    assert found["counted"] == 3 * 40
    assert found["unblocked"] == 0.75
    assert found["chance"] == pytest.approx(1 / 3)
    assert found["obeyed"] == pytest.approx(2 / 3)
    assert found["by_command"]["left"] == {"obeyed": None, "counted": 0}
    assert found["confusion"]["up"]["up"] == 40
    assert found["confusion"]["down"]["noop"] == 40


def test_a_dream_as_near_to_a_wrong_outcome_has_not_obeyed():
    known = drawn(1)
    black, white = np.zeros_like(known.outcomes[:, 0]), np.full_like(known.outcomes[:, 0], 255)
    outcomes = np.stack([white, black, black, black, black], 1)
    outcomes[:, 2, :, :, :4], outcomes[:, 3, :, :, 4:] = 255, 255
    known = dataclasses.replace(known, outcomes=outcomes, groups=np.arange(5)[None])

    class Grey:
        def step(self, actions):
            return torch.full((len(actions["action"]), 3, 8, 8), 0.5)

    found = control(lambda *_: Grey(), known)
    assert found["obeyed"] == 0
    assert found["by_command"]["noop"]["obeyed"] == 0


def test_a_poor_picture_of_the_right_outcome_is_obedient_and_batches_do_not_matter():
    known = drawn()
    oracle, noise = Told(known, lambda i, k: k), torch.Generator().manual_seed(0)

    class Poor:
        def __call__(self, *context):
            oracle(*context)
            return self

        def step(self, actions):
            made = oracle.step(actions)
            return 0.5 * made + 0.2 + 0.1 * torch.randn(made.shape, generator=noise)

    found = control(Poor(), known, batch_size=7)
    assert found["obeyed"] == 1
    assert 5 < found["psnr"] < 30
    exact = [control(oracle, known, batch_size=size) for size in (7, 40, 64)]
    assert exact[0] == exact[1] == exact[2]


def test_only_the_command_given_reaches_the_dream():
    """Each is held for all frames, as the action that the model knows."""
    known, seen = drawn(3), []

    class Noting:
        def step(self, actions):
            seen.append(actions["action"].tolist())
            return torch.rand(3, 3, 8, 8)

    control(lambda *_: Noting(), known)
    assert seen == [[action] * 3 for action in (7, 3, 5, 1, 2) for _ in range(2)]


def test_a_dream_of_another_size_or_not_finite_is_named():
    known = drawn(2)

    class Broken:
        def __init__(self, frame):
            self.frame = frame

        def step(self, actions):
            return self.frame

    with pytest.raises(ConfigError, match=r"\(2, 3, 16, 16\), the environment's \(2, 3, 8, 8\)"):
        control(lambda *_: Broken(torch.rand(2, 3, 16, 16)), known)
    with pytest.raises(DataError, match="NaN"):
        control(lambda *_: Broken(torch.full((2, 3, 8, 8), torch.nan)), known)
