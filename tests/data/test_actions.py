import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from wakedream.config import from_dict, to_dict
from wakedream.data.actions import ActionComponent, ActionSpec
from wakedream.data.loader import Loader
from wakedream.data.store import Store
from wakedream.environments.config import RecordConfig
from wakedream.environments.record import record
from wakedream.errors import ConfigError, DataError


def spaces():
    s = pytest.importorskip("gymnasium.spaces")
    return {
        "one choice": s.Discrete(4), "choices from -1": s.Discrete(3, start=-1),
        "many choices": s.MultiDiscrete([[2, 3], [4, 5]]), "from 1 and -2": s.MultiDiscrete([2, 3], start=[1, -2]),
        "bits": s.MultiBinary((2, 2)), "box": s.Box(-2, 3, (2, 2)), "half open": s.Box(-np.inf, 1, ()),
        "tuple": s.Tuple((s.Discrete(2),)),
        "nested": s.Dict(a=s.Discrete(2), action=s.Box(0, 1, (3,)),
                         b=s.Tuple((s.MultiDiscrete([2, 3]), s.Dict(c=s.MultiBinary(2))))),
    }


@pytest.mark.parametrize("name", ["one choice", "choices from -1", "many choices", "from 1 and -2", "bits", "box",
                                  "half open", "tuple", "nested"])
def test_any_action_of_a_space_fits_its_spec(name):
    space = spaces()[name]
    space.seed(0)
    spec = ActionSpec.from_space(space)
    assert from_dict(ActionSpec, to_dict(spec)) == spec
    seen = [spec.flatten(space.sample()) for _ in range(40)]
    together = {key: np.stack([one[key] for one in seen]) for key in seen[0]}
    spec.check(together, 40)
    for component in spec.components:
        if component.kind == "categorical":
            assert set(together[component.name].tolist()) == set(range(component.size))
    spec.check(spec.placeholder(7), 7)


def test_nested_names_and_values_come_apart_in_order():
    spec = ActionSpec.from_space(spaces()["nested"])
    assert [c.name for c in spec.components] == ["a", "action", "b/0/0", "b/0/1", "b/1/c"]
    flat = spec.flatten({"a": 1, "action": np.array([.1, .2, .3]), "b": (np.array([0, 2]), {"c": [1, 0]})})
    assert flat["b/0/1"] == 2
    assert flat["b/1/c"].tolist() == [1, 0]
    bounds = ActionSpec.from_space(spaces()["box"]).components[0]
    assert (bounds.size, bounds.low, bounds.high) == (4, (-2.0,) * 4, (3.0,) * 4)
    half = ActionSpec.from_space(spaces()["half open"]).components[0]
    assert (half.low, half.high, half.reach) == ((None,), (1.0,), ((-1.0,), (1.0,)))


def test_a_box_keeps_the_bounds_that_it_has():
    gym_spaces = pytest.importorskip("gymnasium.spaces")
    largest, none = np.finfo(np.float32).max, np.inf  # many spaces say the first and mean the second
    space = gym_spaces.Box(np.float32([-none, 0, -largest, 3]), np.float32([1, none, largest, 4]))
    spec = ActionSpec.from_space(space)
    box = spec.components[0]
    assert (box.low, box.high) == ((None, 0.0, None, 3.0), (1.0, None, None, 4.0))
    assert box.reach == ((-1.0, 0.0, -1.0, 3.0), (1.0, 2.0, 1.0, 4.0))
    assert from_dict(ActionSpec, to_dict(spec)) == spec
    values = np.float32([[1, 0, 0, 3], [-9e9, 9e9, -9e9, 4], [1.1, 0, 0, 3], [1, -.1, 0, 3], [1, 0, 0, 4.1],
                         [-none, 0, 0, 3]])
    assert box.possible(values).tolist() == [True, True, False, False, False, False]
    unbounded = ActionSpec.from_space(gym_spaces.Box(-none, none, (2,))).components[0]
    assert (unbounded.low, unbounded.high) == ((), ())


def test_other_spaces_are_refused():
    gym_spaces = pytest.importorskip("gymnasium.spaces")
    with pytest.raises(DataError, match="cannot be kept"):
        ActionSpec.from_space(gym_spaces.Text(5))


@pytest.mark.parametrize("wrong", [
    {}, {"a": np.zeros(3, np.int64), "b": np.zeros((3, 2), np.float32)}, {"a": np.zeros(2, np.int64)},
    {"a": np.zeros(3, np.int32)}, {"a": np.full(3, 4)}, {"a": np.full(3, -1)}])
def test_what_does_not_fit_is_refused(wrong):
    with pytest.raises(DataError, match="action component"):
        ActionSpec((ActionComponent("a", "categorical", 4),)).check(wrong, 3)


@pytest.mark.parametrize("wrong", [
    dict(name="", kind="binary", size=1), dict(name="a", kind="binary", size=0),
    dict(name="a", kind="binary", size=1, high=(1.0,)), dict(name="a", kind="categorical", size=2, low=(0.5,)),
    dict(name="a", kind="categorical", size=2, low=(0.0, 1.0)), dict(name="a", kind="categorical", size=2, high=(1.0,)),
    dict(name="a", kind="continuous", size=2, low=(0.0, 0.0)),
    dict(name="a", kind="continuous", size=1, low=(0.0,), high=(float("inf"),)),
    dict(name="a", kind="continuous", size=1, low=(float("nan"),), high=(1.0,)),
    dict(name="a", kind="continuous", size=2, low=(0.0, 1.0), high=(1.0, 0.0)),
    dict(name="a", kind="categorical", size=2, labels=("one",))])
def test_components_that_cannot_be_are_refused(wrong):
    with pytest.raises(ConfigError, match="action component"):
        ActionComponent(**wrong)


def test_names_that_lead_through_folders_are_refused():
    for name in ("../x", "a/../b", "..", ".", "/a", "a/", "a//b", "a\\b", "a\nb", "a\0"):
        with pytest.raises(ConfigError, match="expected a name, or names with slashes between"):
            ActionComponent(name, "binary", 1)
    for name in ("a", "arm/0", "cam era", "..x", "größe"):
        assert ActionComponent(name, "binary", 1).name == name


@pytest.mark.parametrize("cache_gib", [0, 1], ids=["unpacked batch by batch", "unpacked whole"])
def test_from_play_to_batch_an_action_explains_the_frame_it_stands_beside(tmp_path, cache_gib):
    """In this world a frame is 20 * (choice + 1), plus one more than the frame before had over such a multiple."""
    pytest.importorskip("gymnasium")
    sys.path.insert(0, str(Path(__file__).parents[1] / "environments"))  # the recording process inherits it
    record(RecordConfig("toy_world:ToyPainter-v0", str(tmp_path), 60, policy="random", held_out=0))
    with Loader(Store.open(tmp_path), batch_size=24, length=4, device="cpu", cache_gib=cache_gib) as loader:
        clip = next(loader)
    level = clip.video[:, :, 0, 0, 0].long()
    moved, step = clip.actions["action"], torch.where(level == 255, 0, level % 20)
    explained = 20 * (moved + 1) + step.roll(1, 1) + 1 == level
    assert clip.has_action[:, 1:].all()
    assert torch.equal(clip.has_action[:, 0], level[:, 0] != 255)  # a clip cut from the middle keeps its first action
    assert clip.has_action[:, 0].any() and not clip.has_action[:, 0].all()
    assert explained[:, 1:].all()
    assert torch.equal((20 * (moved + 1) + step == level)[:, 0], clip.has_action[:, 0])
    for other in (-1, 1):  # the action after, the action before
        wrong = 20 * (moved.roll(other, 1) + 1) + step.roll(1, 1) + 1 == level
        assert wrong[:, 1:3].float().mean() < 0.5
