"""Laws of the preset `auto`: it fits any data set, and on what the presets were made for it is they."""

from dataclasses import replace
from pathlib import Path

import pytest

from wakedream.data.actions import ActionSpec
from wakedream.data.manifest import EpisodeInfo, Header, Manifest
from wakedream.dynamics.dynamics import Dynamics
from wakedream.errors import DataError
from wakedream.presets.auto import clip_length, dynamics_for, latents_for, tokenizer_auto, tokenizer_for, value_of
from wakedream.presets.dynamics import dynamics_preset
from wakedream.presets.tokenizer import tokenizer_preset
from wakedream.tokenizer.tokenizer import Tokenizer

BASES = ("demo", "crafter")
SHAPES = [(64, 64, 3), (64, 64, 1), (96, 160, 3), (360, 640, 3), (20, 24, 3), (84, 84, 4)]


def episode(number: int, frames: int) -> EpisodeInfo:
    return EpisodeInfo(number, 0, 0, 0, 0, frames, "train", True, False, False, 0.0, (), 0, "", "")


def data(shape=(64, 64, 3), lengths=(200,) * 20) -> Manifest:
    episodes = [episode(number, frames) for number, frames in enumerate(lengths)]
    return Manifest.of(Header(shape, ActionSpec(), 0.1), [], episodes)


@pytest.mark.parametrize("base", BASES)
def test_on_64_pixels_and_long_episodes_it_is_the_preset(base):
    tokenizer, dynamics = tokenizer_preset(base), dynamics_preset(base)
    assert tokenizer_for(data(), tokenizer) == tokenizer
    assert dynamics_for(data(), tokenizer.model, dynamics) == dynamics


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("lengths", [(300,) * 4, (7,) * 30, (1,) * 5, (2, 500, 30, 41)])
def test_every_data_set_gets_a_config_whose_clips_its_episodes_hold(base, shape, lengths):
    """Checked by the configs themselves; and most frames lie in episodes that are long enough."""
    tokenizer = tokenizer_for(data(shape, lengths), tokenizer_preset(base))
    dynamics = dynamics_for(data(shape, lengths), tokenizer.model, dynamics_preset(base))
    assert (*tokenizer.model.frame_size, tokenizer.model.channels) == shape
    assert tokenizer.objective.lpips_weight == 0 or (shape[2] == 3 and min(shape[:2]) >= 31)
    assert (dynamics.model.num_latents, dynamics.model.latent_dim) == (tokenizer.model.num_latents,
                                                                       tokenizer.model.latent_dim)
    for run in (tokenizer, dynamics):
        held = sum(frames for frames in lengths if frames >= run.loader.length)
        assert held >= 0.8 * sum(lengths)
        assert run.model.window <= run.loader.length


def test_models_of_odd_data_can_be_built():
    tokenizer = tokenizer_for(data((20, 24, 3), (9,) * 9), tokenizer_preset("demo"))
    small = replace(dynamics_for(data((20, 24, 3), (9,) * 9), tokenizer.model, dynamics_preset("demo")).model, depth=2)
    assert Tokenizer(tokenizer.model) and Dynamics(small, ActionSpec())


def test_a_batch_is_about_as_much_work_whatever_the_frames_are():
    base = tokenizer_preset("crafter")
    for shape in SHAPES[2:4]:
        run = tokenizer_for(data(shape), base)
        tokens = [r.loader.batch_size * r.loader.length * (r.model.num_patches + r.model.num_latents)
                  for r in (run, base)]
        assert 0.5 < tokens[0] / tokens[1] < 2


def test_clips_are_as_long_as_most_frames_allow():
    assert clip_length([episode(0, 40), episode(1, 9)], 64) == 40
    assert clip_length([episode(0, 40), episode(1, 39)], 64) == 39
    assert clip_length([episode(0, 400)], 64) == 64


def test_latents_grow_with_the_picture():
    assert [latents_for(*size) for size in ((32, 32), (64, 64), (128, 128), (360, 640))] == [16, 16, 64, 512]


def test_the_data_set_is_found_among_the_arguments(tmp_path: Path):
    assert value_of(["--data", "a", "--out=b"], "--data") == "a"
    assert value_of(["--out=b", "--data=c"], "--data") == "c"
    assert value_of(["--out", "b"], "--data") is None and value_of(["--data"], "--data") is None
    with pytest.raises(DataError, match="there is no data set"):
        tokenizer_auto(["--data", str(tmp_path / "nowhere"), "--train.device", "cpu"])
