from dataclasses import replace

import pytest
import torch
from little import build, clip

from wakedream.dynamics import shortcut
from wakedream.dynamics.noise import COMMIT, START, noise, row_seeds
from wakedream.errors import ConfigError, DataError


def trained(**changes):
    dynamics = build(**changes).eval()
    dynamics.shortcut.fill_(True)
    return dynamics


def actions_at(one, t):
    return {name: values[:, t] for name, values in one.actions.items()}


def dreamed(dynamics, one, context, seed=0, **options):
    dream = dynamics.dream(one.latents.shape[0], seed=seed, **options)
    if context:
        dream.observe(one.latents[:, :context], {n: v[:, :context] for n, v in one.actions.items()})
    return torch.stack([dream.step(actions_at(one, t)) for t in range(context, one.latents.shape[1])], dim=1)


@torch.no_grad()
@pytest.mark.parametrize("steps", [1, 2, 8])
def test_a_dream_is_the_sampler_run_without_a_cache(steps):
    """The whole past again for every pass: 9 frames with a window of 4, so beyond the ring's end."""
    dynamics, one, context = trained(), clip(batch=2, frames=9), 3
    finest, seeds, shape = 8, row_seeds(7, 2), one.latents.shape[2:]

    def drawn(frames, draw):
        return noise(seeds, torch.tensor(frames).expand(2, -1), draw, tuple(shape))

    level, index = shortcut.commit_level(finest), shortcut.finest_index(finest)
    tau = torch.full((2, context), level / finest)
    past = shortcut.noised(dynamics.standardise(one.latents[:, :context]), drawn(range(context), COMMIT), tau)
    made = []
    for t in range(context, 9):
        z = drawn([t], START)
        for at, step_index in shortcut.sampling_passes(steps, finest):
            levels, indices = torch.full((2, t + 1), level), torch.full((2, t + 1), index)
            levels[:, -1], indices[:, -1] = at, step_index
            whole = shortcut.Noised(torch.cat([past, z], 1), levels, indices)
            x = dynamics(whole, one.trajectory.frames(slice(0, t + 1))).latents[:, -1:]
            z = z + (x - z) / (1 - at / finest) / steps
        made.append(dynamics.unstandardise(x)[:, 0])
        past = torch.cat([past, shortcut.noised(x, drawn([t], COMMIT), torch.full((2, 1), level / finest))], 1)
    wanted = torch.stack(made, 1)
    found = dreamed(dynamics, one, context, sampling_steps=steps, seed=7)
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def test_a_context_longer_than_the_window_is_streamed_through():
    dynamics, one = trained(), clip(batch=1, frames=80)
    at_once, in_parts = (dynamics.dream(1, seed=3) for _ in range(2))
    at_once.observe(one.latents, one.actions)
    for start in range(0, 80, 7):
        part = slice(start, start + 7)
        in_parts.observe(one.latents[:, part], {n: v[:, part] for n, v in one.actions.items()})
    step = actions_at(one, 0)
    torch.testing.assert_close(at_once.step(step), in_parts.step(step), atol=1e-4, rtol=1e-4)


def test_actions_context_and_seed_change_the_dream():
    dynamics, one = trained(), clip(batch=2, frames=8)
    same = dreamed(dynamics, one, 4)
    assert torch.equal(dreamed(dynamics, one, 4), same)
    assert not torch.allclose(dreamed(dynamics, one, 4, seed=1), same)
    other = clip(batch=2, frames=8, seed=5)
    for name, mixed in (("latents", replace(one, latents=other.latents)),
                        ("actions", replace(one, trajectory=other.trajectory))):
        assert not torch.allclose(dreamed(dynamics, mixed, 4), same), name


def test_rows_are_separate_and_reset_alone():
    dynamics, one = trained(), clip(batch=2, frames=6)
    step, found = actions_at(one, 0), []
    for rows in (None, torch.tensor([True, False])):
        dream = dynamics.dream(2, seed=0)
        dream.observe(one.latents, one.actions)
        if rows is not None:
            dream.reset(rows)
        found.append(dream.step(step))
    both, after = found
    torch.testing.assert_close(after[1], both[1])
    assert not torch.allclose(after[0], both[0])
    torch.testing.assert_close(dynamics.dream(2, seed=0).step(step)[0], after[0])


def test_after_a_reset_a_dream_is_as_it_was_at_first():
    """With the same seed; with another one, other noise."""
    dynamics, one = trained(), clip(batch=2)
    dream = dynamics.dream(2, seed=4)
    first = [dream.step(actions_at(one, t)) for t in range(3)]
    dream.reset()
    assert all(torch.equal(dream.step(actions_at(one, t)), first[t]) for t in range(3))
    dream.reset(seed=5)
    other = dream.step(actions_at(one, 0))
    assert torch.equal(other, dynamics.dream(2, seed=5).step(actions_at(one, 0)))
    assert not torch.allclose(other, first[0])
    dream.reset(torch.tensor([False, True]), seed=torch.tensor([0, 77]))
    dream.reset(torch.tensor([True, False]))
    mixed = dream.step(actions_at(one, 0))
    assert torch.equal(mixed[0], other[0]) and not torch.allclose(mixed[1], other[1])


def test_dreams_of_one_model_take_turns_in_one_engine():
    """Each goes on as if it were alone; weights and caches are there once."""
    dynamics, one = trained(), clip(batch=2, frames=12)
    alone = {seed: dreamed(dynamics, one, 4, seed=seed) for seed in (0, 1)}
    dreams = {seed: dynamics.dream(2, seed=seed) for seed in (0, 1)}
    for dream in dreams.values():
        dream.observe(one.latents[:, :4], {n: v[:, :4] for n, v in one.actions.items()})
    made = {seed: [] for seed in dreams}
    for t in range(4, 12):
        for seed, dream in dreams.items():
            made[seed].append(dream.step(actions_at(one, t)))
    assert dreams[0].engine is dreams[1].engine
    for seed, latents in made.items():
        assert torch.equal(torch.stack(latents, 1), alone[seed])


def test_a_dream_can_be_saved_and_gone_on_with():
    dynamics, one = trained(), clip(batch=2)
    dream = dynamics.dream(2, seed=9)
    dream.step(actions_at(one, 0))
    state = dream.state()
    wanted = [dream.step(actions_at(one, t)) for t in range(1, 4)]
    other = dynamics.dream(2)
    other.load(state)
    assert all(torch.equal(other.step(actions_at(one, t)), wanted[t - 1]) for t in range(1, 4))


def test_from_nothing_and_without_actions():
    dynamics = trained()
    made = dynamics.dream(3).step()
    assert made.shape == (3, 8, 6) and made.abs().max() <= 1


def test_a_model_of_flow_alone_is_asked_in_its_smallest_step():
    dynamics = build().eval()
    assert {index for _, index in dynamics.dream(1, sampling_steps=4).engine._passes} == {3}
    dynamics.shortcut.fill_(True)
    assert {index for _, index in dynamics.dream(1, sampling_steps=4).engine._passes} == {2}


def test_later_training_does_not_change_a_dream():
    dynamics, one = trained(), clip(batch=1)
    first, second = (dynamics.dream(1, seed=0) for _ in range(2))
    before = first.step(actions_at(one, 0))
    with torch.no_grad():
        dynamics.to_latent.weight.zero_()
    assert torch.equal(second.step(actions_at(one, 0)), before)


@pytest.mark.parametrize(("call", "error", "said"), [
    (lambda d, c: d.dream(2, sampling_steps=3), ConfigError, "power of two from 1 to 8"),
    (lambda d, c: d.dream(0), ConfigError, "batch_size is 0"),
    (lambda d, c: d.dream(1, graph=True), ConfigError, "the model is on 'cpu'"),
    (lambda d, c: d.dream(3).observe(c.latents), ValueError, r"expected latents \(3, t, 8, 6\), got \(4, 6, 8, 6\)"),
    (lambda d, c: d.dream(4).observe(c.latents * torch.nan), ValueError, "not finite"),
    (lambda d, c: d.dream(4).observe(c.latents, {"move": c.actions["move"]}), DataError, "lacking \\['turn'\\]"),
    (lambda d, c: d.dream(4).observe(c.latents, {n: v[:, :3] for n, v in c.actions.items()}), DataError, "expected"),
    (lambda d, c: d.dream(4).step(actions_at(c, 0) | {"move": torch.full((4,), 5)}), DataError, "move"),
    (lambda d, c: d.dream(4).step(None, torch.ones(4, dtype=torch.bool)), ValueError, "none are given"),
])
def test_bad_input(call, error, said):
    with pytest.raises(error, match=said):
        call(trained(), clip())
