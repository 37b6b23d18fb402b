"""The six claims about the tokenizer, each with a check that fails on a deliberately broken copy.

docs/paper.md maps claims to code. Every check takes a model; `test_the_check_can_fail` runs it on a copy
in which exactly the claimed property was broken.
"""

import types

import pytest
import torch

from wakedream.tokenizer.config import TokenizerConfig
from wakedream.tokenizer.patches import patchify, unpatchify
from wakedream.tokenizer.tokenizer import Tokenizer
from wakedream.transformer import layers
from wakedream.transformer.config import TransformerConfig
from wakedream.transformer.layout import TokenLayout
from wakedream.transformer.transformer import Transformer

SIZES = dict(
    height=20,
    width=24,
    patch_size=8,
    dim=32,
    heads=4,
    mlp_dim=64,
    num_latents=4,
    latent_dim=8,
    num_registers=2,
    window=3,
)
KINDS = {
    "factorised": dict(encoder_depth=4, decoder_depth=2, pattern=("space", "time")),
    "seed": dict(encoder_depth=2, decoder_depth=2, pattern=("dense",), shared=True),
}


def build(kind: str = "factorised") -> Tokenizer:
    torch.manual_seed(0)
    return Tokenizer(TokenizerConfig(**SIZES, **KINDS[kind])).eval()


def video(frames: int = 7, batch: int = 2) -> torch.Tensor:
    return torch.rand(batch, frames, 3, 20, 24, generator=torch.Generator().manual_seed(1))


def moved(after: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
    """Largest change of each frame, (t)."""
    return (after - before).abs().transpose(0, 1).flatten(1).amax(1)


def claim_1_masked_patches_and_latents_are_encoded_together(model: Tokenizer) -> None:
    x = video()
    mask = torch.zeros(2, 7, 9, dtype=torch.bool)
    mask[:, :, 0] = True  # the patch at the top left
    latents = model.encode(x, mask)
    hidden, seen = x.clone(), x.clone()
    hidden[..., :8, :8] = 1 - hidden[..., :8, :8]
    seen[..., :8, 8:16] = 1 - seen[..., :8, 8:16]
    assert moved(model.encode(hidden, mask), latents).max() == 0, "a masked patch reaches the latents"
    assert moved(model.encode(seen, mask), latents).min() > 1e-4, "a visible patch does not reach the latents"
    assert moved(model.encode(x), latents).min() > 1e-4, "masking changes nothing"


def claim_2_latents_pass_a_low_dimensional_tanh(model: Tokenizer) -> None:
    x = video()
    prediction, latents = model(x)
    assert latents.shape == (2, 7, 4, 8), latents.shape
    (gradient,) = torch.autograd.grad(
        (prediction - x).square().mean(), model.to_latent.weight, allow_unused=True
    )
    assert gradient is not None, "the loss does not reach the bottleneck"
    assert gradient.abs().sum(1).min() > 0, "a channel of the bottleneck has no gradient"
    with torch.no_grad():
        model.to_latent.weight.mul_(1000)
        assert model.encode(x).abs().max() <= 1, "latents leave [-1, 1]"


def claim_3_the_picture_is_decoded_from_the_latents_alone(model: Tokenizer) -> None:
    prediction, latents = model(video())
    torch.testing.assert_close(
        model.decode(latents),
        prediction.clamp(0, 1),
        atol=1e-5,
        rtol=0,
        msg="the picture is not made from the latents alone",
    )
    for index in range(4):
        without = latents.clone()
        without[:, :, index] = 0
        assert moved(model.decode(without), model.decode(latents)).min() > 1e-4, (
            f"latent {index} does not matter"
        )


def claim_4_attention_is_causal_and_joins_frames(model: Tokenizer) -> None:
    x = video()
    changed = x.clone()
    changed[:, 3] = 1 - changed[:, 3]
    latents, after = model.encode(x), model.encode(changed)
    assert moved(after, latents)[:3].max() == 0, "the future reaches past latents"
    assert moved(after, latents)[4] > 1e-5, "the past does not reach later latents"
    other = latents.clone()
    other[:, 3] *= -1
    frames, redrawn = model.decode(latents), model.decode(other)
    assert moved(redrawn, frames)[:3].max() == 0, "the future reaches past frames"
    assert moved(redrawn, frames)[4] > 1e-5, "past latents do not reach later frames"


def claim_5_frames_are_decoded_one_by_one(model: Tokenizer) -> None:
    x = video(frames=11)  # far beyond the window of 3
    with torch.no_grad():
        latents = model.encode(x)
        frames = model.decode(latents)
        stream = model.stream(batch_size=2)
        for t in range(11):
            torch.testing.assert_close(stream.encode(x[:, t]), latents[:, t], atol=1e-4, rtol=0)
            torch.testing.assert_close(stream.decode(latents[:, t]), frames[:, t], atol=1e-4, rtol=0)


OBSERVED = ("action", "shortcut", "spatial", "register")
DYNAMICS = TokenLayout(
    (("action", 1), ("shortcut", 1), ("spatial", 8), ("register", 2), ("agent", 1)),
    tuple((name, OBSERVED) for name in OBSERVED) + (("agent", (*OBSERVED, "agent")),),
)


def claim_6_one_transformer_serves_tokenizer_and_dynamics(
    model: Tokenizer, layout: TokenLayout = DYNAMICS
) -> None:
    assert type(model.encoder) is Transformer, type(model.encoder)
    torch.manual_seed(0)
    config = TransformerConfig(
        dim=32, depth=4, heads=4, kv_heads=2, mlp_dim=64, pattern=("space", "time"), window=3
    )
    backbone = type(model.encoder)(config).eval()
    x = torch.randn(2, 7, layout.num_tokens, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        full = backbone(x, layout)
        cache = backbone.init_cache(2, layout)
        one_by_one = torch.cat([backbone(frame, layout, cache=cache) for frame in x.split(1, dim=1)], dim=1)
        torch.testing.assert_close(one_by_one, full, atol=1e-4, rtol=0)
        changed = x.clone()
        changed[:, :, layout.spans["agent"]] += 1
        seen = (backbone(changed, layout) - full)[:, :, : layout.spans["agent"].start].abs().max()
        assert seen == 0, "agent tokens are seen by others"
        changed = x.clone()
        changed[:, :, layout.spans["action"]] += 1
        moved_frames = moved(
            backbone(changed, layout)[:, :, layout.spans["spatial"]], full[:, :, layout.spans["spatial"]]
        )
        assert moved_frames.min() > 1e-4, "the action does not reach the picture"


CLAIMS = [
    claim_1_masked_patches_and_latents_are_encoded_together,
    claim_2_latents_pass_a_low_dimensional_tanh,
    claim_3_the_picture_is_decoded_from_the_latents_alone,
    claim_4_attention_is_causal_and_joins_frames,
    claim_5_frames_are_decoded_one_by_one,
    claim_6_one_transformer_serves_tokenizer_and_dynamics,
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.__name__)
def test_claim(claim, kind):
    claim(build(kind))


# ---- deliberately broken copies


def break_mask(model, monkeypatch):
    """Masked patches are encoded as they are."""
    whole = model._encode
    model._encode = lambda frames, mask, cache=None: whole(frames, None, cache)


def break_joint_encoding(model, monkeypatch):
    """Latents do not see patches."""
    layout = model.encoder_layout
    model.encoder_layout = TokenLayout(
        layout.segments, (("patch", ("patch",)), ("latent", ("latent",)), ("register", ("patch", "register")))
    )


def break_tanh(model, monkeypatch):
    monkeypatch.setattr(torch, "tanh", lambda x: x)


def break_by_reading_encoder_patches(model, monkeypatch):
    """The seed's flow diagram: pixels come from the encoder's own patch tokens."""

    def forward(self, frames, mask=None):
        patches = self.embed_patch(patchify(frames, 8)) + self.patch_positions
        tokens = self._join(patches, self.latent_tokens, self.encoder_registers)
        tokens = self.encoder(tokens, self.encoder_layout)
        latents = torch.tanh(self.to_latent(tokens[:, :, self.encoder_layout.spans["latent"]]))
        picture = unpatchify(self.to_patch(tokens[:, :, self.encoder_layout.spans["patch"]]), 8, (20, 24))
        return picture, latents

    model.forward = types.MethodType(forward, model)


def break_one_latent(model, monkeypatch):
    """The last latent is invisible to the decoder: an off-by-one of another implementation."""
    whole = model._decode

    def decode(latents, cache=None):
        return whole(torch.cat((latents[:, :, :-1], torch.zeros_like(latents[:, :, -1:])), dim=2), cache)

    model._decode = decode


def break_causality(model, monkeypatch):
    """Time attention sees all frames."""
    monkeypatch.setattr(
        layers,
        "attend",
        lambda q, k, v, mask=None, causal=False, soft_cap=None: (
            torch.nn.functional.scaled_dot_product_attention(q, k, v, enable_gqa=True)
        ),
    )


def break_time(model, monkeypatch):
    """Frames are coded alone."""
    monkeypatch.setattr(
        layers.Attention, "_time", lambda self, query, key, value, scope: torch.zeros_like(query)
    )


def break_cache(model, monkeypatch):
    """The cache forgets: what was stored is never marked as there."""
    from wakedream.transformer.cache import Arrival

    monkeypatch.setattr(Arrival, "commit", lambda self: None)


BROKEN = [
    (CLAIMS[0], break_mask, "masked patch reaches"),
    (CLAIMS[0], break_joint_encoding, "visible patch does not"),
    (CLAIMS[1], break_tanh, "leave"),
    (CLAIMS[1], break_by_reading_encoder_patches, "does not reach the bottleneck"),
    (CLAIMS[2], break_by_reading_encoder_patches, "not made from"),
    (CLAIMS[2], break_one_latent, "latent 3"),
    (CLAIMS[3], break_causality, "future reaches"),
    (CLAIMS[3], break_time, "past does not"),
    (CLAIMS[4], break_cache, "not close"),
]


@pytest.mark.parametrize(
    ("claim", "damage", "message"), BROKEN, ids=lambda part: getattr(part, "__name__", "")
)
def test_the_check_can_fail(claim, damage, message, monkeypatch):
    model = build()
    damage(model, monkeypatch)
    with pytest.raises(AssertionError, match=message):
        claim(model)


def test_the_check_of_claim_6_can_fail():
    leaky = TokenLayout(DYNAMICS.segments, tuple((name, (*OBSERVED, "agent")) for name, _ in DYNAMICS.sees))
    with pytest.raises(AssertionError, match="agent tokens are seen"):
        claim_6_one_transformer_serves_tokenizer_and_dynamics(build(), leaky)
