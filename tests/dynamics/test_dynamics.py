import dataclasses

import pytest
import torch
from little import SPEC, build, clip, looked_at

from wakedream.dynamics.dynamics import Dynamics
from wakedream.dynamics.shortcut import Noised
from wakedream.errors import CheckpointError, ConfigError
from wakedream.tokenizer.config import TokenizerConfig
from wakedream.tokenizer.tokenizer import Tokenizer
from wakedream.transformer.transformer import Transformer

PATTERNS = {"factorised": ("space", "time"), "dense": ("dense",), "grouped": ("space", "time")}


def variant(name) -> Dynamics:
    return build(pattern=PATTERNS[name], kv_heads=1 if name == "grouped" else None)


def changed(one, **values):
    return dataclasses.replace(one, **values)


def test_tokenizer_and_dynamics_use_one_transformer():
    """Claim 6: one class, two layouts; nothing but the layout tells them apart."""
    frames = TokenizerConfig(height=32, width=32, patch_size=8, dim=32, encoder_depth=4, decoder_depth=4, heads=2,
                             mlp_dim=48, pattern=("space", "time"), window=4)
    tokenizer, dynamics = Tokenizer(frames), build()
    assert type(tokenizer.encoder) is type(tokenizer.decoder) is type(dynamics.transformer) is Transformer
    assert tokenizer.encoder.config == dynamics.transformer.config
    dynamics.transformer.load_state_dict(tokenizer.encoder.state_dict())
    tokens = torch.randn(2, 3, tokenizer.encoder_layout.num_tokens, 32)
    assert torch.equal(tokenizer.encoder(tokens, tokenizer.encoder_layout),
                       dynamics.transformer(tokens, tokenizer.encoder_layout))
    assert tokenizer.encoder_layout != dynamics.layout


@pytest.mark.parametrize("name", PATTERNS)
def test_the_future_cannot_touch_the_past(name):
    dynamics, one = variant(name), clip()
    before = looked_at(dynamics, one)
    noisy = torch.randn(one.latents.shape, generator=torch.Generator().manual_seed(2))
    noisy[:, 3:] += 1
    moves = one.actions["move"].clone()
    moves[:, 3:] = (moves[:, 3:] + 1) % 5
    after = looked_at(dynamics, one, noisy=noisy, actions=one.actions | {"move": moves})
    torch.testing.assert_close(after[:, :3], before[:, :3])
    assert (after[:, 3:] - before[:, 3:]).abs().amax((2, 3)).min() > 1e-4


@pytest.mark.parametrize("what", ["move", "turn", "levels", "step_indices", "has_action"])
def test_a_frame_depends_on_its_own(what):
    dynamics, one = build(), clip()
    given = {"levels": torch.full((4, 6), 3), "step_indices": torch.full((4, 6), 1), "actions": one.actions,
             "has_action": one.has_action}
    before = looked_at(dynamics, one, **given)
    if what in one.actions:
        other = one.actions[what].clone()
        other[:, 3] = (other[:, 3] + 1) % 5 if what == "move" else -other[:, 3]
        given["actions"] = one.actions | {what: other}
    else:
        given[what] = given[what].clone()
        given[what][:, 3] = False if what == "has_action" else 2
    after = looked_at(dynamics, one, **given)
    torch.testing.assert_close(after[:, :3], before[:, :3])
    assert (after[:, 3] - before[:, 3]).abs().max() > 1e-4


@pytest.mark.parametrize("name", PATTERNS)
def test_history_and_its_order_matter(name):
    dynamics, one = variant(name), clip(frames=4)
    noisy = torch.randn(one.latents.shape, generator=torch.Generator().manual_seed(2))
    same = {"levels": torch.full((4, 4), 5), "step_indices": torch.full((4, 4), 3)}
    last = looked_at(dynamics, one, noisy=noisy, **same)[:, -1]
    others, swapped = noisy.clone(), noisy.clone()
    others[:, 0] += 1
    swapped[:, [0, 1, 2]] = noisy[:, [2, 0, 1]]
    assert (looked_at(dynamics, one, noisy=others, **same)[:, -1] - last).abs().max() > 1e-4
    still = {"actions": {name: torch.zeros_like(values) for name, values in one.actions.items()}}
    last = looked_at(dynamics, one, noisy=noisy, **same, **still)[:, -1]
    assert (looked_at(dynamics, one, noisy=swapped, **same, **still)[:, -1] - last).abs().max() > 1e-4


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("cached", [False, True])
def test_further_tokens_see_all_and_are_seen_by_none(name, cached):
    """So weights, latents and the outputs of all other tokens stay what they are."""
    dynamics, one = variant(name).eval(), clip(batch=2)
    noised = Noised(torch.randn(one.latents.shape), torch.full((2, 6), 5), torch.full((2, 6), 3))

    def look(tokens, given=noised, keep=("spatial", "register")):
        cache = dynamics.init_cache(2, {name: part.shape[2] for name, part in tokens.items()}) if cached else None
        return dynamics(given, one.trajectory, tokens=tokens, keep=(*keep, *tokens), cache=cache)

    agent, other = torch.randn(2, 2, 6, 3, 32)
    alone, beside, moved = look({}), look({"agent": agent}), look({"agent": other})
    for found in (beside, moved):
        torch.testing.assert_close(found.latents, alone.latents, atol=1e-6, rtol=0)
        for tokens in ("spatial", "register"):
            torch.testing.assert_close(found.outputs[tokens], alone.outputs[tokens], atol=1e-6, rtol=0)
    assert (beside.outputs["agent"] - moved.outputs["agent"]).abs().amin((2, 3)).min() > 0
    later = look({"agent": torch.cat([agent[:, :3], other[:, 3:]], 1)}).outputs["agent"]
    torch.testing.assert_close(later[:, :3], beside.outputs["agent"][:, :3], atol=1e-6, rtol=0)
    earlier = noised.latents.clone()
    earlier[:, 2] += 1  # a frame before is seen through the time layers
    seen = look({"agent": agent}, noised._replace(latents=earlier)).outputs["agent"]
    assert (seen[:, 3] - beside.outputs["agent"][:, 3]).abs().max() > 1e-4
    two = look({"agent": agent, "critic": other})
    torch.testing.assert_close(two.outputs["agent"], beside.outputs["agent"], atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", PATTERNS)
def test_segments_do_not_see_each_other(name):
    dynamics, one = variant(name), clip()
    packed = changed(one, segments=torch.tensor([[0, 0, 0, 1, 1, 1]] * 4))
    noisy = torch.randn(one.latents.shape, generator=torch.Generator().manual_seed(2))
    before = looked_at(dynamics, packed, noisy=noisy)
    noisy[:, :3] += 1
    after = looked_at(dynamics, packed, noisy=noisy)
    torch.testing.assert_close(after[:, 3:], before[:, 3:])
    assert (after[:, :3] - before[:, :3]).abs().max() > 1e-4


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("chunk", [1, 2, 5])
def test_cached_equals_full_at_every_window_phase(name, chunk):
    dynamics, one = variant(name), clip(batch=2, frames=15)
    noised = Noised(torch.randn(one.latents.shape), torch.randint(8, (2, 15)), torch.randint(4, (2, 15)))
    whole = dynamics(noised, one.trajectory).latents
    cache, parts = dynamics.init_cache(2), []
    for at in range(0, 15, chunk):
        part = slice(at, at + chunk)
        given, trajectory = Noised(*(tensor[:, part] for tensor in noised)), one.trajectory.frames(part)
        if chunk == 1:  # looks that are not committed leave no trace
            dynamics(given._replace(latents=given.latents + 1), trajectory, cache=cache, committed=0)
        parts.append(dynamics(given, trajectory, cache=cache).latents)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=1e-4, rtol=1e-4)


def test_the_output_layer_starts_at_zero_and_stays_in_float32():
    dynamics = Dynamics(build().config, SPEC)
    with torch.autocast("cpu", torch.bfloat16):
        made = looked_at(dynamics, clip())
    assert made.dtype == torch.float32 and made.abs().max() == 0


def test_velocities_are_turned_into_clean_latents():
    dynamics = build(predict="v")
    noisy, levels = torch.randn(4, 6, 8, 6), torch.randint(8, (4, 6))
    clean = looked_at(dynamics, clip(), noisy=noisy, levels=levels)
    dynamics.config = dataclasses.replace(dynamics.config, predict="x")
    put_out = looked_at(dynamics, clip(), noisy=noisy, levels=levels)
    torch.testing.assert_close(clean, noisy + (1 - levels[..., None, None] / 8) * put_out)


def test_standardised_and_back():
    dynamics, latents = build(), clip().latents
    torch.testing.assert_close(dynamics.unstandardise(dynamics.standardise(latents)), latents)
    assert dynamics.unstandardise(torch.full((1, 1, 8, 6), 9.0)).max() == 1


@pytest.mark.compile
def test_it_compiles_without_a_break():
    dynamics, one = build(), clip()
    wanted = looked_at(dynamics, one)
    dynamics.compile(fullgraph=True, dynamic=False)
    torch.testing.assert_close(looked_at(dynamics, one), wanted, atol=1e-5, rtol=1e-4)


def test_saved_and_loaded(tmp_path):
    dynamics = build(packing=4, predict="v")
    dynamics.tokenizer = "a" * 64
    dynamics.shortcut.fill_(True)
    dynamics.save_pretrained(tmp_path / "w")
    again = Dynamics.from_pretrained(tmp_path / "w")
    assert (again.config, again.actions, again.tokenizer) == (dynamics.config, dynamics.actions, dynamics.tokenizer)
    assert bool(again.shortcut)
    assert torch.equal(looked_at(again, clip()), looked_at(dynamics.eval(), clip()))


def test_a_tokenizer_is_no_dynamics_model(tmp_path):
    Tokenizer.from_preset("debug").save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="describes 'tokenizer', expected a dynamics model"):
        Dynamics.from_pretrained(tmp_path)


@pytest.mark.parametrize(("changes", "said"), [({"packing": 3}, "packing is 3"), ({"finest_steps": 6}, "power of two"),
                                               ({"pattern": ("space",)}, "nothing crosses frames")])
def test_impossible_shapes(changes, said):
    with pytest.raises(ConfigError, match=said):
        build(**changes)


def test_told_spatial_tokens_know_action_and_level_without_looking():
    """With attention silenced the action and the signal level reach the picture only where spatial tokens are told."""
    for told in (False, True):
        model = build(told=told)
        for layer in model.blocks:
            torch.nn.init.zeros_(layer.attention.out.weight)
        one = clip()
        other = {**one.actions, "move": (one.actions["move"] + 1) % 5}
        levels = torch.zeros(4, 6, dtype=torch.int64)
        before = looked_at(model, one, levels=levels)
        assert (not torch.equal(before, looked_at(model, one, levels=levels, actions=other))) is told
        assert (not torch.equal(before, looked_at(model, one, levels=levels + 1))) is told
