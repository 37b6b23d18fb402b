"""What a user gives to a world: arrays and lists as good as tensors; what cannot be is refused, nothing is ignored."""

import inspect

import numpy as np
import pytest
import torch
from test_world import context, world

from wakedream.data.actions import ActionComponent, ActionSpec
from wakedream.errors import ConfigError, DataError
from wakedream.model.given import actions_of
from wakedream.model.pretrained import in_words
from wakedream.world.model import World

FRAMES, ACTIONS = context()
OPTIONS = ("batch_size", "sampling_steps", "seed", "precision", "graph", "compile")


def test_the_options_are_named_in_the_signature():
    for method in (World.dream, type(world().dynamics).dream):
        assert set(OPTIONS) <= set(inspect.signature(method).parameters)


def test_no_seed_is_a_new_one_and_a_given_one_repeats():
    one = world()
    first, second = one.dream(), one.dream()
    assert not torch.equal(first.seeds, second.seeds) and not torch.equal(first.step(), second.step())
    again = one.dream(seed=second.seeds)
    assert torch.equal(again.step(), one.dream(seed=second.seeds.numpy()).step())
    assert torch.equal(one.dream(seed=5).step(), one.dream(seed=np.int64(5)).step())


@pytest.mark.parametrize("make", [lambda t: t.numpy(), lambda t: t.tolist(), lambda t: t.numpy()[::-1][::-1]])
def test_arrays_and_lists_dream_as_tensors(make):
    one, steps = world(), [{"move": torch.tensor([2, 0])}] * 2
    wanted = one.dream(FRAMES, ACTIONS, seed=1)
    found = one.dream(make(FRAMES), {"move": make(ACTIONS["move"])}, seed=1)
    for step in steps:
        assert torch.equal(found.step({"move": make(step["move"])}), wanted.step(step))
    for dream in (wanted, found):
        dream.observe(FRAMES if dream is wanted else make(FRAMES))
    assert torch.equal(found.latent, wanted.latent)


def test_a_number_is_an_action_of_one_dream():
    one = world()
    wanted = one.dream(seed=1).step({"move": torch.tensor([2])})
    for given in (2, np.int32(2), [2], np.array([2], np.uint8)):
        assert torch.equal(one.dream(seed=1).step({"move": given}), wanted)
        assert torch.equal(one.dynamics.dream(seed=1).step({"move": given}),
                           one.dynamics.dream(seed=1).step({"move": torch.tensor([2])}))


def test_the_only_component_needs_no_name():
    one = world()
    wanted = one.dream(FRAMES, ACTIONS, seed=1)
    bare = one.dream(FRAMES, ACTIONS["move"].numpy(), seed=1)
    for given in ([2, 0], np.array([1, 1]), torch.tensor([0, 2])):
        assert torch.equal(bare.step(given), wanted.step({"move": given}))
    assert torch.equal(one.dream(seed=1).step(2), one.dream(seed=1).step({"move": 2}))
    two = ActionSpec((*one.dynamics.actions.components, ActionComponent("arm", "continuous", 2)))
    for given in ([1], np.zeros(1), 3, 0):
        with pytest.raises(DataError, match=r"as \{'move': ..., 'arm': ...\}, got"):
            actions_of(two, given, (1,))
    with pytest.raises(DataError, match="trained without any"):
        actions_of(ActionSpec(), [1], (1,))


@pytest.mark.parametrize("make", [list, np.array, torch.tensor])
def test_rows_begin_anew_by_arrays_and_lists(make):
    one = world()
    dream, wanted = (one.dream(FRAMES, ACTIONS, seed=1) for _ in range(2))
    dream.reset(make([True, False]))
    wanted.reset(torch.tensor([True, False]))
    assert torch.equal(dream.step([0, 1]), wanted.step([0, 1]))
    stream, other = (one.tokenizer.stream(2) for _ in range(2))
    for each, rows in ((stream, make([True, False])), (other, torch.tensor([True, False]))):
        each.encode(FRAMES[:, 0])
        each.reset(rows)
    assert torch.equal(stream.encode(FRAMES[:, 1]), other.encode(FRAMES[:, 1]))
    for rows in ([1, 0], [True], "no"):
        with pytest.raises(ValueError, match="rows"):
            stream.reset(rows)


@pytest.mark.parametrize("make", [lambda t: t.numpy(), lambda t: t.tolist()])
def test_latents_are_decoded_from_arrays_and_lists(make):
    one = world()
    latents = one.tokenizer.encode(FRAMES).detach()
    with torch.no_grad():
        wanted = one.tokenizer.decode(latents)
        assert torch.equal(one.tokenizer.decode(make(latents)), wanted)
        assert torch.equal(one.tokenizer.decode(make(latents.double())), wanted)
        one.tokenizer.decode(make(latents.sign() * 1.2))  # drawn a little beyond
    assert torch.equal(one.tokenizer.stream(2).decode(make(latents[:, 0])),
                       one.tokenizer.stream(2).decode(latents[:, 0]))
    dream, other = one.dynamics.dream(2, seed=1), one.dynamics.dream(2, seed=1)
    dream.observe(make(latents), ACTIONS)
    other.observe(latents, ACTIONS)
    assert torch.equal(dream.step([0, 1]), other.step([0, 1]))


@pytest.mark.parametrize(("latents", "said"), [
    (torch.full((1, 1, 4, 6), torch.nan), "not finite"),
    (np.full((1, 1, 4, 6), -np.inf), "not finite"),
    (torch.zeros(1, 1, 4, 6, dtype=torch.int64), r"expected latents as floats in \[-1, 1\].*got torch.int64"),
    (torch.full((1, 1, 4, 6), 3.0), "from 3 to 3: expected floats"),
    ("latents", "expected a tensor, an array or lists"),
])
def test_latents_that_cannot_be(latents, said):
    one = world()
    for call in (one.tokenizer.decode, one.tokenizer.stream().decode, one.dynamics.dream().observe):
        with pytest.raises(ValueError, match=said):
            call(latents)


def test_a_state_is_one_of_its_kind_with_as_many_rows_or_one():
    one = world()
    two, single = one.dream(FRAMES, ACTIONS, seed=1), one.dream(FRAMES[:1], ACTIONS["move"][:1], seed=1)
    stream = one.tokenizer.stream(2)
    for whose, state in ((two, {"a": 1}), (two, two.dreamer.state()), (two.dreamer, two.state()), (stream, None)):
        with pytest.raises(ValueError, match=rf"load: expected what `{type(whose).__name__}.state\(\)` gave, got"):
            whose.load(state)
    for whose, state in ((single, two.state()), (one.tokenizer.stream(3), stream.state())):
        with pytest.raises(ValueError, match="the state has 2 rows: expected 1"):
            whose.load(state)
    two.load(single.state())
    made = two.step([2, 2])
    torch.testing.assert_close(made[:1], made[1:])  # all rows are that one
    torch.testing.assert_close(made[:1], single.step(2), atol=1e-4, rtol=1e-4)


def test_float_frames_are_as_good_as_bytes():
    one = world()
    assert torch.allclose(one.dream(FRAMES / 255, seed=1).step(), one.dream(FRAMES, seed=1).step())


@pytest.mark.parametrize(("frames", "said"), [
    (FRAMES.float(), r"from 0 to 255: expected uint8 from 0 to 255, or floats in \[0, 1\]"),
    (FRAMES / 127.5 - 1, "from -1 to 1: expected"),
    (torch.full(FRAMES.shape, torch.nan), "not finite"),
    (np.full(FRAMES.shape, np.inf), "not finite"),
    ((FRAMES.int() + 1000).tolist(), "expected 0 to 255"),
    ([["frame"]], "expected a tensor, an array or lists of numbers"),
    ("frames.png", "expected a tensor"),
    (FRAMES[:, :0], "no frames are given"),
    (FRAMES[:0], "no frames are given"),
    (FRAMES[:, :, :1], r"expected frames \(2, t, 3, 16, 16\), got \(2, 5, 1, 16, 16\)"),
])
def test_frames_that_cannot_be(frames, said):
    one = world()
    with pytest.raises(ValueError, match=said):
        one.dream(frames)
    if isinstance(frames, torch.Tensor):
        with pytest.raises(ValueError, match=said.replace(r"\(2, t,", r"\(b, t,")):
            one.tokenizer.encode(frames)


@pytest.mark.parametrize(("call", "error", "said"), [
    (lambda w: w.dream(actions=ACTIONS), ValueError, "without the frames that they led into"),
    (lambda w: w.dream(FRAMES[:1], batch_size=3), ValueError, r"batch_size is 3 for frames of 1 row:.*fork"),
    (lambda w: w.dream(batch_size=0), ConfigError, "1 or more"),
    (lambda w: w.dream(batch_size=4).step({"move": torch.tensor([1])}), DataError,
     r"'move': got shape \(1,\) for 4 dreams, expected \(4,\)"),
    (lambda w: w.dream(FRAMES, {"move": [1]}), DataError,
     r"got shape \(1,\) for 2 dreams of 5 frames, expected \(2, 5"),
    (lambda w: w.dream().step({"move": 3}), DataError, "'move': got 3"),
    (lambda w: w.dream().step({"move": 1.0}), DataError, "expected torch.int64"),
    (lambda w: w.dream().step({"walk": 1}), DataError, r"unknown \['walk'\]"),
    (lambda w: w.dream(seed=[1, 2]), ValueError, r"one for each row as int64 \(1,\)"),
    (lambda w: w.tokenizer.decode(torch.zeros(1, 0, 4, 6)), ValueError, "no latents are given"),
    (lambda w: w.dream(batch_size=2).fork(3), ValueError, "one row becomes any number, 2 become 2"),
    (lambda w: w.dream().fork(0), ValueError, r"fork\(0\): expected at least 1"),
    (lambda w: w.tokenizer.stream(2).fork(-1), ValueError, r"fork\(-1\): expected at least 1"),
    (lambda w: w.dream(FRAMES, np.zeros(3)), DataError, r"'move': got shape \(3,\) for 2 dreams of 5 frames"),
])
def test_what_cannot_be_is_refused(call, error, said):
    with pytest.raises(error, match=said):
        call(world())


def test_a_refused_context_leaves_the_dream_where_it_was():
    one = world()
    dream, other = (one.dream(FRAMES, ACTIONS, seed=1) for _ in range(2))
    with pytest.raises(DataError, match="'move': got 9"):
        dream.observe(FRAMES, {"move": torch.full((2, 5), 9)})
    assert torch.equal(dream.step(), other.step())


def test_without_a_gpu_that_is_what_is_said(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    one = world()
    for call in (lambda: one.to("cuda"), lambda: one.tokenizer.to("cuda"), one.dynamics.cuda):
        with pytest.raises(ConfigError, match="no GPU is visible"):
            call()
    assert one.to("cpu").device.type == "cpu"


def test_a_fork_goes_on_as_a_dream_of_its_own():
    """The same noise, so the same actions dream the same; neither moves the other."""
    one = world()
    dream = one.dream(FRAMES, ACTIONS, seed=1)
    fork = dream.fork()
    assert torch.equal(fork.latent, dream.latent)
    there = [dream.step({"move": [0, 1]}) for _ in range(3)]
    here = [fork.step({"move": [0, 1]}) for _ in range(3)]
    assert all(torch.equal(a, b) for a, b in zip(there, here, strict=True))
    assert not torch.equal(fork.step({"move": [2, 1]})[0], dream.step({"move": [0, 1]})[0])


def test_one_dream_becomes_many():
    one = world()
    dream = one.dream(FRAMES[:1], {"move": ACTIONS["move"][:1]}, seed=1)
    many = dream.fork(3)
    made = many.step({"move": [0, 1, 2]})
    assert many.batch_size == 3 and not torch.equal(made[0], made[2])
    torch.testing.assert_close(made[1:2], dream.step({"move": 1}), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("count", "said"), [(999, "999"), (1000, "1 thousand"), (34_567, "34.6 thousand"),
                                             (999_499, "999 thousand"), (999_500, "1.0 M"), (12_700_000, "12.7 M")])
def test_small_models_are_counted_in_thousands(count, said):
    assert in_words(count) == said


def test_what_is_printed_says_what_it_is():
    one = world()
    shown = repr(one)
    for part in ("World(Tokenizer(16x16 frames of 3 channels, 4x6 latents each", "Dynamics(4x6 latents a frame",
                 "actions move (categorical, 0 to 2)", " thousand weights (float32) on cpu"):
        assert part in shown, shown
    assert repr(one.dream(batch_size=2, seed=[7, 8])) == (
        "WorldDream(2 dreams, 4 sampling steps a frame, seeds [7, 8], on cpu)")
