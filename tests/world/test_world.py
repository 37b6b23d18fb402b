import pytest
import torch

from wakedream.data.actions import ActionComponent, ActionSpec
from wakedream.dynamics.config import DynamicsConfig
from wakedream.dynamics.dynamics import Dynamics
from wakedream.errors import CheckpointError, ConfigError
from wakedream.model.fp8 import Fp8Product
from wakedream.tokenizer.config import TokenizerConfig
from wakedream.tokenizer.tokenizer import Tokenizer
from wakedream.world.model import World
from wakedream.world.rows import DreamRows

SPEC = ActionSpec((ActionComponent("move", "categorical", 3),))


def tokenizer(seed=0) -> Tokenizer:
    torch.manual_seed(seed)
    return Tokenizer(TokenizerConfig(height=16, width=16, patch_size=8, dim=32, encoder_depth=2, decoder_depth=2,
                                     heads=2, mlp_dim=48, num_latents=4, latent_dim=6, num_registers=1,
                                     pattern=("space", "time"), window=3)).eval()


def world(**changes) -> World:
    own = tokenizer()
    torch.manual_seed(1)
    values = {"num_latents": 4, "latent_dim": 6, "dim": 32, "depth": 2, "heads": 2, "mlp_dim": 48,
              "pattern": ("space", "time"), "window": 4, "finest_steps": 8}
    dynamics = Dynamics(DynamicsConfig(**values | changes), SPEC).eval()
    torch.nn.init.normal_(dynamics.to_latent.weight, std=0.3)
    dynamics.tokenizer = own.fingerprint()
    return World(own, dynamics)


def context(frames=5):
    draw = torch.Generator().manual_seed(2)
    return (torch.randint(0, 256, (2, frames, 3, 16, 16), dtype=torch.uint8, generator=draw),
            {"move": torch.randint(3, (2, frames), generator=draw)})


@pytest.mark.parametrize("make", [lambda one: one.dream(precision="fp8"),
                                  lambda one: DreamRows(one, 1, precision="fp8")])
def test_a_dream_in_fp8_shows_its_pictures_in_bf16(make):
    made = make(world())
    engine = made.engine if isinstance(made, DreamRows) else made.dreamer.engine
    assert any(isinstance(part, Fp8Product) for part in engine.model.modules())
    assert not any(isinstance(part, Fp8Product) for part in made.stream.tokenizer.modules())
    assert made.stream.tokenizer.encoder.norm.weight.dtype == torch.bfloat16


def test_a_dream_in_pictures_is_the_latent_dream_decoded():
    """Encoded by the stream, dreamed in latents, decoded with the frames before: 5 of context, 4 dreamed."""
    one, (frames, actions) = world(), context()
    dream = one.dream(frames, actions, sampling_steps=2, seed=3)
    latents = one.dynamics.dream(2, sampling_steps=2, seed=3)
    encoded = one.tokenizer.encode(frames)
    latents.observe(encoded, actions)
    made, all_latents = [], encoded
    for t in range(4):
        step = {"move": torch.tensor([t % 3, 1])}
        made.append(dream.step(step))
        all_latents = torch.cat([all_latents, latents.step(step)[:, None]], dim=1)
        torch.testing.assert_close(dream.latent, all_latents[:, -1], atol=1e-4, rtol=1e-4)
    wanted = one.tokenizer.decode(all_latents)[:, 5:]
    torch.testing.assert_close(torch.stack(made, 1), wanted, atol=1e-4, rtol=1e-4)


def test_more_can_be_seen_on_the_way():
    one, (frames, actions) = world(), context(6)
    whole, parts = (one.dream(frames[:, :t], {"move": actions["move"][:, :t]}, seed=0) for t in (6, 4))
    parts.observe(frames[:, 4:], {"move": actions["move"][:, 4:]})
    torch.testing.assert_close(parts.latent, whole.latent, atol=1e-4, rtol=1e-4)


def test_from_nothing():
    frame = world().dream(batch_size=3).step({"move": torch.zeros(3, dtype=torch.int64)})
    assert frame.shape == (3, 3, 16, 16) and frame.min() >= 0 and frame.max() <= 1


def test_a_reset_row_begins_anew():
    one, (frames, actions) = world(), context()
    dream = one.dream(frames, actions, seed=0)
    step = {"move": torch.tensor([0, 2])}
    before = dream.step(step)
    dream.reset()
    again = dream.step(step)
    assert torch.equal(again, one.dream(batch_size=2, seed=0).step(step)) and not torch.equal(again, before)
    dream.reset(seed=3)
    assert torch.equal(dream.step(step), one.dream(batch_size=2, seed=3).step(step))


def test_saved_and_loaded(tmp_path):
    one, (frames, actions) = world(), context()
    one.save_pretrained(tmp_path / "w")
    again = World.from_pretrained(tmp_path / "w")
    assert torch.equal(again.dream(frames, actions, seed=0).step(), one.dream(frames, actions, seed=0).step())


def test_another_tokenizer_is_refused(tmp_path):
    one = world()
    with pytest.raises(CheckpointError, match=one.dynamics.tokenizer[:12]):
        World(tokenizer(seed=5), one.dynamics)
    one.save_pretrained(tmp_path / "w")
    tokenizer(seed=5).save_within(tmp_path / "w" / "tokenizer")
    with pytest.raises(CheckpointError, match="latents of the tokenizer"):
        World.from_pretrained(tmp_path / "w")


def test_latents_of_another_shape_are_refused():
    one = world()
    other = Dynamics(
        DynamicsConfig(num_latents=8, latent_dim=6, dim=32, depth=2, heads=2, mlp_dim=48, pattern=("time",)), SPEC)
    with pytest.raises(ConfigError, match="makes 4x6 latents a frame, the dynamics model takes 8x6"):
        World(one.tokenizer, other)


def test_a_folder_without_a_tokenizer(tmp_path):
    world().dynamics.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="has no folder 'tokenizer'"):
        World.from_pretrained(tmp_path)


def test_frames_of_another_shape():
    with pytest.raises(ValueError, match=r"expected frames \(b, t, c, h, w\)"):
        world().dream(torch.zeros(2, 3, 16, 16))
