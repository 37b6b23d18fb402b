"""`wakedream dream`, and actions that are held."""

from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from squares import SPEC, write_played

from wakedream.data.actions import ActionComponent, ActionSpec
from wakedream.data.store import Store
from wakedream.data.video import read_video
from wakedream.errors import CheckpointError, ConfigError, DataError, RunError
from wakedream.evaluation.commands import commands, held, others, parse, random_actions
from wakedream.evaluation.config import DreamConfig
from wakedream.evaluation.dynamics import video as dream_video
from wakedream.evaluation.dynamics.pictures import from_nothing, under_commands
from wakedream.evaluation.dynamics.rollouts import roll_out
from wakedream.evaluation.dynamics.video import dream
from wakedream.evaluation.dynamics.windows import dream_clips

MIXED = ActionSpec((ActionComponent("turn", "categorical", 3, labels=("left", "stay", "right")),
                    ActionComponent("keys", "binary", 2), ActionComponent("push", "continuous", 2, (0, 0), (4, 9))))


@pytest.fixture
def rolled(monkeypatch):
    """Notes what dreams are given."""
    notes = []

    def noting(dynamics, clip, context, **options):
        notes.append((clip, context))
        return roll_out(dynamics, clip, context, **options)

    monkeypatch.setattr(dream_video, "roll_out", noting)
    return notes


def frames_of(path, height, width):
    return np.stack(list(read_video(path, (height, width), "stretch")))


def test_truth_beside_dream_beside_difference(world_run, played, tmp_path, capsys, rolled):
    out = tmp_path / "x.mp4"
    dream(DreamConfig(world_run, out, played.path, context=5, frames=9, clips=2, scale=1, device="cpu"))
    assert "truth | dream | difference x 4; 2 dreams of 9 frames after 5 of context" in capsys.readouterr().out
    assert frames_of(out, 2 * 32 + 2, 3 * 34 - 2).shape == (14, 66, 100, 3)
    clip, context = rolled[0]
    assert context == 5 and (clip.actions["move"].diff() % 5 == 1).all()


def test_other_actions_begin_after_the_context(world_run, played, tmp_path, rolled):
    out = tmp_path / "x.mp4"
    dream(DreamConfig(world_run, out, played.path, context=5, frames=9, clips=2, scale=1, device="cpu",
                      actions=("move=3", "push=1,2")))
    assert frames_of(out, 66, 66).shape == (14, 66, 66, 3)
    clip, _ = rolled[0]
    assert (clip.actions["move"][:, 5:] == 3).all() and (clip.actions["move"][:, :5].diff() % 5 == 1).all()
    assert (clip.actions["push"][:, 5:] == torch.tensor([1.0, 2.0])).all()
    assert clip.has_action[:, 5:].all()


def test_more_dreams_than_the_data_has_are_not_promised(world_run, tmp_path, capsys):
    data = write_played(tmp_path / "data", [10] * 4)
    dream(DreamConfig(world_run, tmp_path / "x.mp4", data.path, context=5, frames=4, clips=1000, scale=1, device="cpu"))
    there = 2 * len(data.split("held_out"))
    assert f"{there} dreams (of 1000: the data has no more clips so long) of 4 frames after" in capsys.readouterr().out


@pytest.mark.parametrize("actions", [(), ("move=3",)])
def test_dreams_are_as_long_as_short_episodes_allow(world_run, tmp_path, capsys, actions):
    data = write_played(tmp_path / "short", [9] * 6)
    dream(DreamConfig(world_run, tmp_path / "x.mp4", data.path, context=5, frames=64, clips=2, scale=1,
                      actions=actions, device="cpu"))
    assert "2 dreams of 4 frames (of 64: the episodes are no longer) after 5" in capsys.readouterr().out
    assert len(frames_of(tmp_path / "x.mp4", 66, 66)) == 5 + 4


@pytest.mark.parametrize(("lengths", "frames"), [
    ([80, 30, 30], 64),  # as asked for, if only one is so long
    ([50] * 4, 34), ([50, 40, 45, 20], 24),  # else as long as each of three in an episode of its own
    ([50, 20, 20], 16), ([30, 20, 20], 14),  # but not ever shorter for it
    ([50], 34),
])
def test_how_far_dreams_go(lengths, frames):
    store = Mock(spec=Store, judging_split="train")
    store.split.return_value = [SimpleNamespace(frames=length) for length in lengths]
    assert dream_video._reach(DreamConfig(Path("run"), Path("x.mp4"), Path("data")), store) == frames


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_loaded(world_run, tmp_path, monkeypatch):
    monkeypatch.setattr(dream_video.World, "from_pretrained", lambda path: pytest.fail("loaded"))
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunError, match="a file is in the way"):
        dream(DreamConfig(world_run, tmp_path / "file" / "x.mp4"))
    data = write_played(tmp_path / "data.mp4", [8, 8])
    with pytest.raises(ConfigError, match="is a folder"):
        dream(DreamConfig(world_run, data.path, data.path))


def test_from_nothing(world_run, tmp_path, rolled, capsys):
    dream(DreamConfig(world_run, tmp_path / "x.mp4", frames=12, clips=3, scale=1, device="cpu"))
    assert "3 dreams of 12 frames from nothing" in capsys.readouterr().out
    assert frames_of(tmp_path / "x.mp4", 32, 100).shape == (12, 32, 100, 3)
    clip, context = rolled[0]
    assert context == 0 and not clip.has_action[:, 0].any() and clip.has_action[:, 1:].all()


def test_a_start_knows_no_action_and_then_those_of_a_clip(tokenizer, world, played):
    clips, given = dream_clips(tokenizer, played, 3, 5, 16), []

    def roll(clip, context):
        given.append((clip, context))
        return roll_out(world.dynamics, clip, context)

    strips, video = from_nothing(tokenizer, clips, roll)
    (clip, context), = given
    assert context == 0 and not clip.has_action[:, 0].any() and clip.has_action[:, 1:].all()
    assert (clip.actions["move"][:3] == clips.clip.actions["move"][:, 5:]).all()
    assert list(strips) == ["frame 1", "frame 4", "frame 16"] and video.shape == (16, 32, 8 * 34 - 2, 3)


def test_one_context_and_one_noise_under_each_action(tokenizer, world, played):
    """Pictures of one action beside itself are the same; the context is the same under all."""
    clips = dream_clips(tokenizer, played, 3, 5, 16)
    one, two = ({"move": np.asarray(i), "push": np.full(2, 9.0 * i, np.float32)} for i in range(2))

    def roll(clip, context, actions):
        return roll_out(world.dynamics, clip, context, actions=actions)

    videos, places = under_commands(tokenizer, clips, roll, {"a": one, "b": one, "c": two})
    assert len(videos) == len(places) and set(places) <= set(clips.places)
    for video in videos:
        a, b, c = (video[:, :, start:start + 32] for start in (0, 34, 68))
        assert (a == b).all() and (a[:5] == c[:5]).all() and not (a[5:] == c[5:]).all()


def test_bad_input_is_named_and_nothing_is_written(world_run, played, tmp_path):
    def refused(kind, message, run=world_run, **options):
        with pytest.raises(kind, match=message):
            dream(DreamConfig(run, tmp_path / "out.mp4", device="cpu", **options))

    refused(CheckpointError, "expected a dynamics model", run=world_run / "tokenizer")
    refused(DataError, "a dream is shown 500 frames .* but the longest held-out episode has", data=played.path,
            context=500)
    (tmp_path / "out.mp4").mkdir()
    refused(ConfigError, "is a folder: give the name of a file")
    (tmp_path / "out.mp4").rmdir()
    refused(ConfigError, "sampling_steps is 3", sampling_steps=3)
    refused(ConfigError, "did you mean 'move'", actions=("mov=3",))
    refused(ConfigError, "expected 0 to 4", actions=("move=5",))
    refused(ConfigError, "expected true, random or NAME=VALUE", actions=("move",))
    refused(ConfigError, "--actions true", actions=("true",))
    other = write_played(tmp_path / "other", [40] * 4, spec=ActionSpec(SPEC.components[:1]))
    refused(DataError, "has the actions 'move'", data=other.path)
    with pytest.raises(ConfigError, match=r"ends in \.mp4"):
        DreamConfig(world_run, tmp_path / "out.gif")
    assert not list(tmp_path.glob("*out*"))


def test_words_to_actions():
    action = parse(MIXED, ("turn=right", "push=1.5,9"))
    assert action["turn"] == 2 and action["keys"].tolist() == [0, 0] and action["push"].tolist() == [1.5, 9]
    assert parse(MIXED, ("turn=1", "keys=0,1"))["keys"].tolist() == [0, 1]
    for words, message in (("turn=up", "0 to 2, or one of left, stay, right"), ("keys=0,2", "2 of 0 or 1"),
                           ("push=1", "2 finite numbers"), ("push=1,10", "from"), ("push=a,b", "2 finite numbers")):
        with pytest.raises(ConfigError, match=message):
            parse(MIXED, (words,))
    many = held(action, 3, 4)
    MIXED.check({name: values[0].numpy() for name, values in many.items()}, 4)
    assert many["push"].shape == (3, 4, 2)


def test_choices_are_given_as_the_environment_counts_and_kept_from_0():
    one = ActionComponent("turn", "categorical", 3, low=(1.0,), labels=("left", "stay", "right"))
    spec = ActionSpec((one,))
    for number, label in zip((1, 2, 3), one.labels, strict=True):
        for text in (number, label):
            assert parse(spec, (f"turn={text}",))["turn"] == one.encode(number) == number - 1
    for number in (0, 4, 10**30):
        with pytest.raises(ConfigError, match=f"turn={number}: expected 1 to 3, or one of left, stay, right"):
            parse(spec, (f"turn={number}",))


def test_random_actions_are_possible_and_kept():
    drawn = random_actions(MIXED, 2, 50, 8, seed=0)
    for row in range(2):
        MIXED.check({name: values[row].numpy() for name, values in drawn.items()}, 50)
    for component in MIXED.components:
        assert component.possible(drawn[component.name].flatten(0, 1).numpy()).all()
        assert (drawn[component.name][:, 1:8] == drawn[component.name][:, :1]).all()
    assert drawn["turn"].unique().tolist() == [0, 1, 2]


def test_commands_of_an_environment_or_of_the_data(played, tmp_path):
    own = commands(SPEC, played)
    assert list(own) == [f"move {i}" for i in range(5)]
    assert own["move 3"]["move"] == 3 and own["move 3"]["push"].tolist() == [0, 0]
    spec = ActionSpec((ActionComponent("action", "categorical", 17),))
    recorded = write_played(tmp_path / "recorded", [8, 8], env="crafter")
    assert {name: int(action["action"]) for name, action in commands(spec, recorded).items()} == {
        "noop": 0, "left": 1, "right": 2, "up": 3, "down": 4}
    from_one = ActionSpec((ActionComponent("move", "categorical", 5, low=(1.0,)), *SPEC.components[1:]))
    assert {name: int(action["move"]) for name, action in commands(from_one, played).items()} == {
        f"move {i + 1}": i for i in range(5)}
    ends = commands(ActionSpec(MIXED.components[2:]), played)
    assert {name: action["push"].tolist() for name, action in ends.items()} == {
        "nothing": [0, 0], "low push 0": [0, 0], "high push 0": [4, 0], "low push 1": [0, 0], "high push 1": [0, 9]}
    assert commands(ActionSpec(), played) == {}


@pytest.mark.parametrize(("parts", "shown", "told"), [
    ((), 0, ""), ((("move", "categorical", 5),), 5, ""),
    ((("move", "categorical", 17),), 5, "only 5 of 17 that 'move' has are shown"),
    ((("keys", "binary", 4),), 5, ""), ((("arm", "continuous", 7), ("grip", "binary", 1)), 5,
                                        "only 5 of 15 that 'arm' has are shown; the other 1 component stays at 0"),
    ((("move", "categorical", 3), ("a", "binary", 1), ("b", "binary", 1)), 3, "the other 2 components stay at 0"),
])
def test_what_is_not_held_is_told(parts, shown, told):
    assert others(ActionSpec(tuple(ActionComponent(*part) for part in parts)), shown) == told
