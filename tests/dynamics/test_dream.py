import pytest
import torch
from little import build, clip

from wakedream.dynamics import shortcut
from wakedream.errors import ConfigError, DataError


def trained(**changes):
    dynamics = build(**changes).eval()
    dynamics.shortcut.fill_(True)
    return dynamics


def actions_at(one, t):
    return {name: values[:, t] for name, values in one.actions.items()}


def dreamed(dynamics, one, context, **options):
    dream = dynamics.dream(one.latents.shape[0], **options)
    if context:
        dream.observe(one.latents[:, :context], {n: v[:, :context] for n, v in one.actions.items()})
    return torch.stack([dream.step(actions_at(one, t)) for t in range(context, one.latents.shape[1])], dim=1)


@torch.no_grad()
@pytest.mark.parametrize("steps", [1, 2, 8])
def test_a_dream_is_the_sampler_run_without_a_cache(steps):
    """The whole past again for every pass: 9 frames with a window of 4, so beyond the ring's end."""
    dynamics, one, context = trained(), clip(batch=2, frames=9), 3
    finest, draw = 8, torch.Generator().manual_seed(7)
    shape = (2, 1, *one.latents.shape[2:])
    level, size = shortcut.commit_level(finest), shortcut.finest_size(finest)
    noise = torch.randn(2, context, *shape[2:], generator=draw)
    tau = torch.full((2, context), level / finest)
    past = shortcut.noised(dynamics.standardise(one.latents[:, :context]), noise, tau)
    made = []
    for t in range(context, 9):
        begin, end = torch.randn(shape, generator=draw), torch.randn(shape, generator=draw)
        given = {n: v[:, :t + 1] for n, v in one.actions.items()}
        z = begin
        for at, row in shortcut.sampling_rows(steps, finest):
            levels, sizes = torch.full((2, t + 1), level), torch.full((2, t + 1), size)
            levels[:, -1], sizes[:, -1] = at, row
            x = dynamics(torch.cat([past, z], 1), levels, sizes, given, one.has_action[:, :t + 1])[:, -1:]
            z = z + (x - z) / (1 - at / finest) / steps
        made.append(dynamics.unstandardise(x)[:, 0])
        past = torch.cat([past, shortcut.noised(x, end, torch.full((2, 1), level / finest))], 1)
    wanted = torch.stack(made, 1)
    found = dreamed(dynamics, one, context, sampling_steps=steps, seed=7)
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def test_a_context_longer_than_the_window_is_streamed_through():
    """Equal to what the window holds of it, up to where layers over time reach back one after the other."""
    dynamics, one = trained(), clip(batch=1, frames=80)
    at_once, in_parts = (dynamics.dream(1, seed=3) for _ in range(2))
    at_once.observe(one.latents, one.actions)
    noise = torch.randn(1, 80, *one.latents.shape[2:], generator=torch.Generator().manual_seed(3))
    in_parts._noise = lambda frames, left=[0]: noise[:, left[0]:(left.__setitem__(0, left[0] + frames) or left[0])]
    for start in range(0, 80, 7):
        part = slice(start, start + 7)
        in_parts.observe(one.latents[:, part], {n: v[:, part] for n, v in one.actions.items()})
    del in_parts._noise
    in_parts.generator.set_state(at_once.generator.get_state())
    step = actions_at(one, 0)
    torch.testing.assert_close(at_once.step(step), in_parts.step(step), atol=1e-4, rtol=1e-4)


def test_actions_context_and_seed_change_the_dream():
    dynamics, one = trained(), clip(batch=2, frames=8)
    same = dreamed(dynamics, one, 4)
    assert torch.equal(dreamed(dynamics, one, 4), same)
    assert not torch.allclose(dreamed(dynamics, one, 4, seed=1), same)
    other = clip(batch=2, frames=8, seed=5)
    for name in ("latents", "actions"):
        mixed = clip(batch=2, frames=8)
        setattr(mixed, name, getattr(other, name))
        assert not torch.allclose(dreamed(dynamics, mixed, 4), same), name


def test_rows_are_separate_and_reset_alone():
    dynamics, one = trained(), clip(batch=2, frames=6)
    dream = dynamics.dream(2)
    dream.observe(one.latents, one.actions)
    state = dream.generator.get_state()
    step = actions_at(one, 0)
    both = dream.step(step)
    dream = dynamics.dream(2)
    dream.observe(one.latents, one.actions)
    dream.reset(torch.tensor([True, False]))
    dream.generator.set_state(state)
    after = dream.step(step)
    torch.testing.assert_close(after[1], both[1])
    assert not torch.allclose(after[0], both[0])
    fresh = dynamics.dream(2)
    fresh.generator.set_state(state)
    torch.testing.assert_close(fresh.step(step)[0], after[0])


def test_from_nothing_and_without_actions():
    dynamics = trained()
    made = dynamics.dream(3).step()
    assert made.shape == (3, 8, 6) and made.abs().max() <= 1


def test_a_model_of_flow_alone_is_asked_in_its_smallest_step():
    dynamics = build().eval()
    assert {size for _, size in dynamics.dream(1, sampling_steps=4).rows} == {3}
    dynamics.shortcut.fill_(True)
    assert {size for _, size in dynamics.dream(1, sampling_steps=4).rows} == {2}


def test_later_training_does_not_change_a_dream():
    dynamics, one = trained(), clip(batch=1)
    first, second = (dynamics.dream(1) for _ in range(2))
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


@pytest.mark.gpu
def test_a_graph_dreams_as_the_cpu_does():
    dynamics, one = trained(dim=64), clip(batch=2, frames=12)
    noise = torch.randn(64, 2, 1, 8, 6, generator=torch.Generator().manual_seed(0))
    wanted, made = [], []
    for device, found, graph in (("cpu", wanted, False), ("cuda", made, True)):
        dream = dynamics.to(device).dream(2, precision="float32", graph=graph)
        left = iter(noise)
        dream._noise = lambda frames, left=left, to=device: torch.cat([next(left) for _ in range(frames)], 1).to(to)
        dream.observe(one.latents[:, :3], {n: v[:, :3] for n, v in one.actions.items()})
        found += [dream.step(actions_at(one, t)).cpu() for t in range(3, 12)]
    torch.testing.assert_close(torch.stack(made), torch.stack(wanted), atol=2e-3, rtol=2e-3)
