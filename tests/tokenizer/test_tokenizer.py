"""Laws of the tokenizer beside the six claims."""

import json

import pytest
import torch
from small import SMALL

from wakedream.errors import CheckpointError, ConfigError
from wakedream.presets.tokenizer import PRESETS, tokenizer_preset
from wakedream.tokenizer.config import TokenizerConfig
from wakedream.tokenizer.tokenizer import Tokenizer


def build(config: TokenizerConfig = SMALL) -> Tokenizer:
    torch.manual_seed(0)
    return Tokenizer(config).eval()


def video(frames=3, height=20, width=24):
    return torch.rand(2, frames, 3, height, width, generator=torch.Generator().manual_seed(1))


def test_any_size_is_padded_and_cropped_back():
    model, x = build(), video()
    assert model.config.grid == (3, 3)
    prediction, latents = model(x)
    assert prediction.shape == x.shape
    assert latents.shape == (2, 3, 4, 8)


def test_position_matters():
    """Shuffled patches give other latents, permuted latents another picture."""
    model, x = build(), video()
    shuffled = x.clone()
    shuffled[..., :8, :8], shuffled[..., :8, 8:16] = x[..., :8, 8:16], x[..., :8, :8]
    latents = model.encode(x)
    assert (model.encode(shuffled) - latents).abs().max() > 1e-3
    assert (model.decode(latents[:, :, [1, 0, 2, 3]]) - model.decode(latents)).abs().max() > 1e-3


def test_nothing_is_masked_unless_asked_even_in_training_mode():
    model, x = build().train(), video()
    empty = torch.zeros(2, 3, 9, dtype=torch.bool)
    assert torch.equal(model.encode(x), model.encode(x, empty))
    assert torch.equal(model.reconstruct(x), model.reconstruct(x, empty))


def test_bytes_and_floats_are_the_same_frames():
    model = build()
    x = (video() * 255).to(torch.uint8)
    assert torch.equal(model.encode(x), model.encode(x.float() / 255))


def test_decode_clamps_and_training_does_not():
    model, x = build(), video()
    with torch.no_grad():
        model.to_patch.weight.mul_(100)
    prediction, latents = model(x)
    assert prediction.min() < 0
    assert prediction.max() > 1
    assert model.decode(latents).min() == 0
    assert model.decode(latents).max() == 1


def test_masked_patches_are_shown_grey():
    model, x = build(), video()
    mask = model.patch_mask(2, 3, 0.5, torch.Generator().manual_seed(0))
    shown = model.show_mask(x, mask)
    assert mask.sum(-1).unique().tolist() == [4]
    grey = (shown == 0.5).all(dim=2).float().mean()
    assert 0.3 < grey < 0.6
    assert torch.equal(shown[shown != 0.5], x[shown != 0.5])


def test_wrong_shapes_say_what_was_expected():
    model = build()
    with pytest.raises(ValueError, match=r"expected frames \(b, t, 3, 20, 24\), got \(2, 3, 3, 24, 24\)"):
        model.encode(video(height=24))
    with pytest.raises(ValueError, match=r"expected latents \(b, t, 4, 8\)"):
        model.decode(torch.zeros(1, 1, 4, 9))
    with pytest.raises(ValueError, match="uint8 or as floats"):
        model.encode(torch.zeros(1, 1, 3, 20, 24, dtype=torch.int64))
    with pytest.raises(ValueError, match="2 rows"):
        model.stream(2).encode(torch.zeros(1, 3, 20, 24))


def test_saved_weights_come_back(tmp_path):
    model, x = build(), video()
    model.save_pretrained(tmp_path / "weights")
    again = Tokenizer.from_pretrained(tmp_path / "weights")
    assert again.config == model.config
    assert torch.equal(again.reconstruct(x), model.reconstruct(x))


def test_damaged_weights_are_refused(tmp_path):
    build().save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    whole = file.read_bytes()
    config = json.loads((tmp_path / "config.json").read_text())
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"not what was written \(checksum\)"):
        Tokenizer.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({name: config[name] for name in config if name != "sha256"}))
    with pytest.raises(CheckpointError, match="damaged or missing"):  # of a folder of before there were checksums
        Tokenizer.from_pretrained(tmp_path)
    file.write_bytes(whole)
    assert Tokenizer.from_pretrained(tmp_path)
    config["model"]["dim"] = 64
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="do not fit their config.json"):
        Tokenizer.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="missing or damaged"):
        Tokenizer.from_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="does not exist"):
        Tokenizer.from_pretrained(tmp_path / "nowhere")


@pytest.mark.parametrize("name", PRESETS)
def test_presets_build(name):
    config = tokenizer_preset(name).model
    with torch.device("meta"):
        model = Tokenizer(config)
    assert all(parameter.is_meta for parameter in model.parameters())


def test_the_seed_preset_has_the_seed_geometry():
    run = tokenizer_preset("seed")
    config = run.model
    assert (config.num_patches, config.num_latents, config.latent_dim, config.num_registers) == (
        64,
        16,
        32,
        4,
    )
    assert (config.dim, config.encoder_depth, config.heads, config.encoder.layers) == (
        256,
        6,
        8,
        ("dense",) * 6,
    )
    assert config.shared
    assert round(run.objective.mask_ratio * config.num_patches) == 48
    model = Tokenizer(config)
    assert model.decoder is None
    assert model.encoder_layout.num_tokens == 84
    frames = torch.rand(1, 2, 3, 64, 64)
    assert model.encode(frames).shape == (1, 2, 16, 32)


def test_the_paper_preset_has_the_paper_size_and_trains_one_step_on_the_meta_device():
    config = tokenizer_preset("paper").model
    assert (config.grid, config.num_patches) == ((24, 40), 960)
    with torch.device("meta"):
        model = Tokenizer(config)
        assert 380e6 < sum(parameter.numel() for parameter in model.parameters()) < 420e6
        prediction, latents = model(torch.empty(1, 2, 3, 360, 640), torch.empty(1, 2, 960, dtype=torch.bool))
        assert latents.shape == (1, 2, 512, 16)
        prediction.square().mean().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_an_unknown_preset_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'crafter'"):
        Tokenizer.from_preset("craftr")
