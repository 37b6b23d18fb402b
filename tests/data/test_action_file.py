"""Laws of VIDEO.actions.json: entry t led into frame t, nothing is guessed, every refusal says where and what."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from wakedream.config import to_dict
from wakedream.data.action_file import actions_beside, difference, read_actions
from wakedream.data.actions import ActionComponent, ActionSpec
from wakedream.errors import DataError

SPEC = ActionSpec((ActionComponent("move", "categorical", 3, low=(1.0,), labels=("left", "stay", "right")),
                   ActionComponent("keys", "binary", 2),
                   ActionComponent("mouse", "continuous", 2, low=(-1.0, -1.0), high=(1.0, 1.0))))
GOOD = {"components": to_dict(SPEC)["components"],
        "actions": {"move": [None, 1, 2, None, 3, 1],
                    "keys": [None, [0, 1], [1, 0], [1, 1], [True, False], [0, 0]],
                    "mouse": [None, [0.5, -1], None, [0, 0], [1, 0.25], [0, 0.1]]},
        "rewards": [None, 0, 1, 0.5, -2, 3], "terminated": True}


def write(folder: Path, content: object = None, **changes: object) -> Path:
    """The good file, or others; `changes` of "actions" and "components" are for one of them."""
    values = json.loads(json.dumps(GOOD)) if content is None else content
    for name, value in changes.items():
        if name in ("move", "keys", "mouse"):
            values["actions"][name] = value
        else:
            values[name] = value
    path = folder / "play.actions.json"
    path.write_text(values if isinstance(values, str) else json.dumps(values))
    return path


def test_each_entry_is_kept_as_the_store_counts(tmp_path):
    found = read_actions(write(tmp_path))
    assert found.spec == SPEC
    assert len(found) == 6
    assert found.has_action.tolist() == [False, True, False, False, True, True]  # unknown in one, unknown in all
    assert found.actions["move"].tolist() == [0, 0, 0, 0, 2, 0]
    assert found.actions["keys"].tolist() == [[0, 0], [0, 1], [0, 0], [0, 0], [1, 0], [0, 0]]
    assert found.actions["mouse"][1].tolist() == [0.5, -1]
    assert found.actions["mouse"][4].tolist() == [1, 0.25]
    assert found.rewards.tolist() == [0, 0, 1, 0.5, -2, 3]
    assert found.terminated
    found.spec.check(found.actions, 6)
    lean = {name: GOOD[name] for name in ("components", "actions")}
    assert found.has_reward.tolist() == [False, True, True, True, True, True]
    assert read_actions(write(tmp_path, lean)).rewards.tolist() == [0] * 6
    assert not read_actions(write(tmp_path, lean)).has_reward.any()
    assert not read_actions(write(tmp_path, lean)).terminated


def test_the_first_entry_is_not_looked_at(tmp_path):
    expected = read_actions(write(tmp_path))
    found = read_actions(write(tmp_path, move=["any", *GOOD["actions"]["move"][1:]]))
    assert np.array_equal(found.actions["move"], expected.actions["move"])
    assert np.array_equal(found.has_action, expected.has_action)


def test_a_reward_that_is_null_is_unknown_and_not_0(tmp_path):
    found = read_actions(write(tmp_path, rewards=[7, 0, None, 0.5, None, 3]))
    assert found.rewards.tolist() == [0, 0, 0, 0.5, 0, 3]  # that of entry 0 came before anything was done
    assert found.has_reward.tolist() == [False, True, False, True, False, True]


def test_parts_are_cut_with_their_actions_and_end_where_the_video_ends(tmp_path):
    whole = read_actions(write(tmp_path))
    video = np.zeros((6, 8, 8, 3), np.uint8)
    first, second = whole.episode(video[:4], 0, False, {"part": 1}), whole.episode(video[4:], 4, True, {"part": 2})
    for episode in (first, second):
        episode.check(SPEC, episode.video.shape[1:])
    assert first.has_action.tolist() == [False, True, False, False]
    assert second.has_action.tolist() == [False, True]  # what led into its first frame is another episode's end
    assert second.actions["move"].tolist() == [0, 0]
    assert first.actions["mouse"][1].tolist() == [0.5, -1]
    assert second.actions["mouse"].tolist() == [[0, 0], [0, np.float32(0.1)]]
    assert np.concatenate([first.rewards, second.rewards]).tolist() == [0, 0, 1, 0.5, 0, 3]  # nor is what came with it
    assert np.concatenate([first.has_reward, second.has_reward]).tolist() == [False, True, True, True, False, True]
    assert [(e.terminated, e.truncated) for e in (first, second)] == [(False, True), (True, False)]
    assert [e.info for e in (first, second)] == [{"part": 1}, {"part": 2}]
    assert whole.has_action[4]  # the whole is as it was


@pytest.mark.parametrize(("content", "match"), [
    ('{"components": [', "is not JSON"), ("[1, 2]", r"got \[1, 2\], expected an object"), ("{}", "lacks the field"),
    ('{"components": [], "actions": {}}', "no components"), ("\udcff", "is not JSON"),
    ('{"components": [{"name": "a", "kind": "key", "size": 2}], "actions": {}}', "expected one of .'categorical'"),
    ('{"components": [{"name": "a", "kind": "binary", "size": 2, "low": [0]}], "actions": {}}', "neither low nor high"),
    ('{"components": [{"name": "a", "kind": "continuous", "size": 2, "low": [0], "high": [1]}], "actions": {}}',
     "expected 2 finite numbers each"),
    ('{"components": [{"name": "a", "kind": "continuous", "size": 1, "low": [1], "high": [0]}], "actions": {}}',
     "expected 1 finite numbers each"),
    ('{"components": [{"name": "a", "kind": "categorical", "size": 2, "high": [1]}], "actions": {}}', "and no high"),
])
def test_a_file_that_is_none_is_refused_by_name(tmp_path, content, match):
    path = tmp_path / "play.actions.json"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError, match=match) as caught:
        read_actions(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(("changes", "match"), [
    ({"jump": [None] * 6}, "unknown field of ActionFile 'jump'"),
    ({"actions": {"move": [None] * 6}}, r"got the actions \['move'\], expected .*\['keys', 'mouse', 'move'\]"),
    ({"actions": [1]}, r"got the actions \[1\]"), ({"rewards": 5}, "rewards: got 5, expected a list"),
    ({"move": None}, "actions of 'move': got None, expected a list"), ({"move": []}, r"got \[\], expected a list"),
    ({"move": [None] * 5}, r"actions of 'move' 5, actions of 'keys' 6, .*rewards 6; expected one"),
    ({"rewards": [0] * 7}, "rewards 7"),
    ({"move": [None, 1, 0, 1, 1, 1]}, "'move', frame 2: got 0, expected an integer, 1 to 3"),
    ({"move": [None, 4, 1, 1, 1, 1]}, "'move', frame 1: got 4"), ({"move": [None, 1.5, 1, 1, 1, 1]}, "got 1.5"),
    ({"move": [None, True, 1, 1, 1, 1]}, "got True"), ({"move": [None, 10**30, 1, 1, 1, 1]}, "got 1000000"),
    ({"keys": [None, [0, 2], *[[0, 0]] * 4]}, r"'keys', frame 1: got \[0, 2\], expected 2 of 0 or 1"),
    ({"keys": [None, [0], *[[0, 0]] * 4]}, r"got \[0\]"), ({"keys": [None, "01", *[[0, 0]] * 4]}, "got '01'"),
    ({"mouse": [None, *[[0, 0]] * 3, [0, 1.01], [0, 0]]}, r"frame 4: got \[0, 1.01\], expected 2 finite numbers, from"),
    ({"mouse": [None, [float("nan"), 0], *[[0, 0]] * 4]}, r"frame 1: got \[nan, 0\]"),
    ({"mouse": [None, [1e300, 0], *[[0, 0]] * 4]}, r"frame 1: got \[1e\+300, 0\]"),
    ({"mouse": [None, [[0], [0, 0]], *[[0, 0]] * 4]}, r"frame 1: got \[\[0\], \[0, 0\]\]"),
    ({"mouse": [None, [None, 0], *[[0, 0]] * 4]}, r"frame 1: got \[None, 0\]"),
    ({"rewards": [0, 0, "1", 0, 0, 0]}, "rewards, frame 2: got '1', expected a finite number; or null"),
    ({"rewards": [0, 0, float("inf"), 0, 0, 0]}, "rewards, frame 2: got inf"),
    ({"terminated": 1}, "terminated: expected bool, got 1"),
])
def test_what_is_wrong_is_told_with_file_place_and_expectation(tmp_path, changes, match):
    path = write(tmp_path, **changes)
    with pytest.raises(DataError, match=match) as caught:
        read_actions(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_differences_of_specs_are_told():
    assert difference(SPEC, SPEC) == ""
    assert "['move', 'keys'], expected ['move', 'keys', 'mouse']" in difference(ActionSpec(SPEC.components[:2]), SPEC)
    wider = replace(SPEC.components[2], low=(-2.0, -2.0), high=(2.0, 2.0))
    assert difference(ActionSpec((*SPEC.components[:2], wider)), SPEC) == (
        "the action component 'mouse' with low (-2.0, -2.0), expected (-1.0, -1.0)")
    assert actions_beside(Path("a/b.c.mp4")) == Path("a/b.c.actions.json")


def test_files_of_other_tools_are_taken(tmp_path):
    """A byte order mark, choices as 1.0 (a table with gaps), bits as true and false."""
    values = {"components": [{"name": "move", "kind": "categorical", "size": 3},
                             {"name": "keys", "kind": "binary", "size": 2}],
              "actions": {"move": [None, 1.0, 2.0], "keys": [None, [True, False], [False, True]]}}
    path = tmp_path / "a.actions.json"
    path.write_text(json.dumps(values), encoding="utf-8-sig")
    found = read_actions(path)
    assert found.actions["move"].tolist() == [0, 1, 2] and found.actions["keys"].tolist() == [[0, 0], [1, 0], [0, 1]]
