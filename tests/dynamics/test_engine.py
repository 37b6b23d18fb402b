"""Laws of the dream engine: rows are dreams of their own, whatever goes on beside them."""

import gc
import weakref

import pytest
import torch
from little import build, clip

from wakedream.bench.slow_twin import slow_frame
from wakedream.dynamics.engine import AFTER, WITH_NEXT, DreamEngine
from wakedream.errors import ConfigError, DataError

SEEDS = torch.tensor([5, -6, 7, 2**40])
PATTERNS = [("space", "time"), ("dense",)]
BOTH = pytest.mark.parametrize("commit", [AFTER, WITH_NEXT])


def trained(**changes):
    dynamics = build(**changes).eval()
    dynamics.shortcut.fill_(True)
    return dynamics


def engine(dynamics=None, rows=4, **options) -> DreamEngine:
    made = DreamEngine(dynamics or trained(), rows, **options)
    made.reset(seeds=SEEDS[:rows])
    return made


def actions_at(one, t):
    return {name: values[:, t] for name, values in one.actions.items()}


def steps(made, one, frames, rows=slice(None)):
    given = ({name: values[rows] for name, values in actions_at(one, t).items()} for t in frames)
    return torch.stack([made.step(actions).latents for actions in given], 1)


@BOTH
@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_row_alone_is_the_row_in_company(commit, pattern):
    dynamics, one = trained(pattern=pattern), clip(frames=12)
    whole = engine(dynamics, commit=commit)
    together = steps(whole, one, range(12))
    for row in range(4):
        alone = DreamEngine(dynamics, 1, commit=commit)
        alone.reset(seeds=SEEDS[row:row + 1])
        found = steps(alone, one, range(12), slice(row, row + 1))[0]
        torch.testing.assert_close(found, together[row], atol=1e-5, rtol=0)


@pytest.mark.parametrize("sampling_steps", [1, 2, 8])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_commit_that_rides_with_the_next_frame_dreams_the_same(pattern, sampling_steps):
    """Also while rows pause, begin anew, and see more of what really happened."""
    dynamics, one = trained(pattern=pattern), clip(frames=24)
    first, second = (engine(dynamics, commit=commit, sampling_steps=sampling_steps) for commit in (AFTER, WITH_NEXT))
    draw = torch.Generator().manual_seed(0)
    for t in range(24):
        active = torch.rand(4, generator=draw) < 0.7
        wanted, found = (made.step(actions_at(one, t), active).latents[active] for made in (first, second))
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)
        for made in (first, second):
            if t == 9:
                made.reset(torch.tensor([1]), torch.tensor([99]))
            if t == 12:
                seen = clip(batch=2, frames=40, seed=4)
                made.observe(seen.latents, seen.trajectory, torch.tensor([3, 0]))
        assert torch.equal(first.frames, second.frames)


@BOTH
def test_rows_that_pause_go_on_as_if_they_had_not(commit):
    dynamics, one = trained(), clip(frames=16)
    going, pausing = engine(dynamics, commit=commit), engine(dynamics, commit=commit)
    wanted = steps(going, one, range(16))
    draw, at, made = torch.Generator().manual_seed(1), torch.zeros(4, dtype=torch.int64), torch.zeros_like(wanted)
    while (at < 16).any():
        active = (torch.rand(4, generator=draw) < 0.6) & (at < 16)
        now = at.clamp(max=15)
        actions = {name: values[torch.arange(4), now] for name, values in one.actions.items()}
        latents = pausing.step(actions, active).latents
        for row in active.nonzero().flatten().tolist():
            made[row, at[row]] = latents[row]
        at += active
    torch.testing.assert_close(made, wanted, atol=1e-6, rtol=0)


@BOTH
def test_a_saved_state_goes_on_exactly_and_can_be_forked(commit):
    dynamics, one = trained(), clip(frames=12)
    made = engine(dynamics, commit=commit)
    steps(made, one, range(5))
    state, alone = made.state(), made.state(torch.tensor([2]))
    wanted = steps(made, one, range(5, 12))
    made.load(state)
    assert torch.equal(steps(made, one, range(5, 12)), wanted)
    other = DreamEngine(dynamics, 4, commit=commit)
    other.load(alone)
    same = {name: values[2:3, t].expand(4, *values.shape[2:]) for t in (5,) for name, values in one.actions.items()}
    forked = other.step(same).latents
    torch.testing.assert_close(forked, wanted[2:3, 0].expand_as(forked), atol=1e-6, rtol=0)
    made.load(alone, torch.tensor([0, 3]))  # rewind two rows to where the third stood
    after = made.step(same).latents
    torch.testing.assert_close(after[[0, 3]], wanted[2:3, 0].expand(2, -1, -1), atol=1e-6, rtol=0)


def test_after_a_reset_the_same_noise_comes_and_with_another_seed_other():
    made, one = engine(), clip(frames=6)
    first = steps(made, one, range(6))
    made.reset()
    assert torch.equal(steps(made, one, range(6)), first)
    made.reset(torch.tensor([2]), torch.tensor([8]))
    made.reset(torch.tensor([0, 1, 3]))
    again = steps(made, one, range(6))
    assert torch.equal(again[[0, 1, 3]], first[[0, 1, 3]]) and not torch.allclose(again[2], first[2])
    made.reset(seeds=torch.full((4,), 5))
    alike = steps(made, clip(batch=1, frames=6), range(6), torch.zeros(4, dtype=torch.int64))
    assert torch.equal(alike[0], alike[3])  # the row's place does not enter


@BOTH
def test_a_context_in_parts_is_the_context_at_once(commit):
    dynamics, one = trained(), clip(frames=50)
    whole, parts = engine(dynamics, commit=commit), engine(dynamics, commit=commit)
    whole.observe(one.latents, one.trajectory)
    for start in range(0, 50, 7):
        part = slice(start, start + 7)
        parts.observe(one.latents[:, part], one.trajectory.frames(part))
    torch.testing.assert_close(steps(parts, one, range(3)), steps(whole, one, range(3)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_what_tokens_put_out_at_the_commit_is_what_a_whole_look_gives(pattern):
    """Of dreamed frames and of a context: the finished frames at the commit level, all at once, without a cache."""
    dynamics, one, agent = trained(pattern=pattern), clip(frames=9), torch.randn(3, 32)
    made = engine(dynamics, tokens={"agent": agent}, keep=("agent",))
    plain = engine(dynamics)
    dynamics.latent_scale.fill_(0.05)  # so that no latent is clamped
    made.refresh()
    with torch.no_grad():
        seen = made.observe(one.latents[:, :4], one.trajectory.frames(slice(0, 4)))["agent"]
        plain.observe(one.latents[:, :4], one.trajectory.frames(slice(0, 4)))
        found, latents = [seen], [one.latents[:, :4]]
        for t in range(4, 9):
            step = made.step(actions_at(one, t))
            torch.testing.assert_close(step.latents, plain.step(actions_at(one, t)).latents, atol=1e-5, rtol=0)
            found.append(step.outputs["agent"].unsqueeze(1))
            latents.append(step.latents.unsqueeze(1))
        clean = dynamics.standardise(torch.cat(latents, 1))
        numbers = torch.arange(9).expand(4, 9)
        at_commit = made._at_commit(clean, numbers, SEEDS)
        whole = dynamics(at_commit, one.trajectory, tokens={"agent": agent.expand(4, 9, 3, 32)}, keep=("agent",))
    torch.testing.assert_close(torch.cat(found, 1), whole.outputs["agent"], atol=1e-4, rtol=0)


def test_engines_of_one_model_share_one_copy_which_can_be_refreshed():
    dynamics, one = trained(), clip()
    first, second = engine(dynamics), engine(dynamics, rows=2)
    assert first.model is second.model and first.model is not dynamics
    before = first.step(actions_at(one, 0)).latents
    with torch.no_grad():
        dynamics.to_latent.weight.mul_(-1)
    first.reset()
    assert torch.equal(first.step(actions_at(one, 0)).latents, before)
    third = engine(dynamics)  # the copy is in use as it is: this one has its own
    assert third.model is not first.model
    first.refresh()
    first.reset()
    again = first.step(actions_at(one, 0)).latents
    assert not torch.allclose(again, before) and torch.equal(again, third.step(actions_at(one, 0)).latents)


def test_a_model_that_is_gone_takes_its_copies_along():
    dynamics = trained()
    kept = weakref.ref(dynamics.dream(1).engine.model)
    gone = weakref.ref(dynamics)
    del dynamics
    gc.collect()
    assert gone() is None and kept() is None


def test_actions_on_the_host_are_checked_at_once():
    made, one = engine(), clip()
    with pytest.raises(DataError, match="'move': got 5"):
        made.step(actions_at(one, 0) | {"move": torch.full((4,), 5)})
    made.step(actions_at(one, 0))
    made.check()


@pytest.mark.parametrize(("call", "error", "said"), [
    (lambda e, c: e.reset(torch.tensor([True, False, True, True])), ValueError, "by number, int64"),
    (lambda e, c: e.reset(seeds=torch.tensor([1, 2])), ValueError, "a seed for each of 4 rows"),
    (lambda e, c: e.step(active=torch.ones(3, dtype=torch.bool)), ValueError, r"active as bool \(4,\)"),
    (lambda e, c: e.observe(c.latents, None, torch.tensor([1])), ValueError, r"expected latents \(1, t, 8, 6\)"),
    (lambda e, c: e.load(e.state(torch.tensor([0, 1]))), ValueError, "the state has 2 rows: expected 1 or 4"),
    (lambda e, c: e.load(engine(commit=WITH_NEXT).state()), ValueError, "commits at another time or has other tokens"),
    (lambda e, c: engine(commit="never"), ConfigError, "expected 'after' or 'with next'"),
    (lambda e, c: engine(commit=WITH_NEXT, keep=("spatial",)), ConfigError, "leave keep empty"),
    (lambda e, c: engine(sampling_steps=3), ConfigError, "power of two from 1 to 8"),
])
def test_bad_input(call, error, said):
    with pytest.raises(error, match=said):
        call(engine(), clip())


@BOTH
@pytest.mark.parametrize("pattern", PATTERNS)
def test_on_a_cpu_rows_after_the_last_that_goes_on_cost_nothing(commit, pattern, monkeypatch):
    """And change nothing: neither those that go on nor those that wait."""
    dynamics, one = trained(pattern=pattern), clip(frames=9)
    whole, some, looked = engine(dynamics, commit=commit), engine(dynamics, commit=commit), []
    first, second = steps(whole, one, range(3)), steps(some, one, range(3))
    torch.testing.assert_close(second, first, atol=1e-6, rtol=0)
    forward = some.model.forward
    monkeypatch.setattr(some.model, "forward", lambda noisy, *given, **named: (
        looked.append(len(noisy.latents)), forward(noisy, *given, **named))[1])
    for t, active in ((3, [1, 0, 0, 0]), (4, [0, 1, 0, 0]), (5, [0, 0, 1, 0]), (6, [0, 0, 0, 0])):
        looked.clear()
        made = some.step(actions_at(one, t), torch.tensor(active).bool())
        assert set(looked) == {max(1, sum(active) and active.index(1) + 1)} and len(made.latents) == 4
    monkeypatch.undo()
    for row in range(4):  # each goes on as if it had been asked by itself
        lone = DreamEngine(dynamics, 1, commit=commit)
        lone.load(whole.state(torch.tensor([row])))
        if row < 3:
            steps(lone, one, [3 + row], slice(row, row + 1))
        after = steps(lone, one, [7], slice(row, row + 1))[0, 0]
        now = some.step(actions_at(one, 7), torch.arange(4) == row).latents[row]
        torch.testing.assert_close(now, after, atol=1e-5, rtol=0)


@pytest.mark.parametrize("frames", [1, 500])
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize(("commit", "precision", "options", "tolerance"), [
    (AFTER, "float32", {}, 1e-4), (WITH_NEXT, "float32", {}, 1e-4),
    pytest.param(AFTER, "float32", {"compile": True}, 1e-3, marks=pytest.mark.gpu),
    pytest.param(AFTER, "bf16", {"compile": True}, 0.05, marks=pytest.mark.gpu),
    pytest.param(WITH_NEXT, "bf16", {"compile": True}, 0.05, marks=pytest.mark.gpu), (AFTER, "fp8", {}, 0.1),
    pytest.param(AFTER, "fp8", {"graph": True}, 0.1, marks=pytest.mark.gpu),
    pytest.param(WITH_NEXT, "fp8", {"compile": True}, 0.1, marks=pytest.mark.gpu)])
def test_the_next_frame_is_that_of_the_slow_twin(frames, pattern, commit, precision, options, tolerance):
    """From the same past, however long it is; of latents about 0.2 wide."""
    dynamics, one = trained(pattern=pattern, depth=2), clip(batch=2, frames=frames + 1)
    dynamics.latent_scale.fill_(0.05)  # so that no latent is clamped
    made = engine(dynamics.to("cuda" if options else "cpu"), 2, commit=commit, precision=precision, **options)
    seen = frames - min(frames, 6)  # of them, before those that are dreamed
    if seen:
        made.observe(one.latents[:, :seen], one.trajectory.frames(slice(0, seen)))
    past = torch.cat([one.latents[:, :seen], steps(made, one, range(seen, frames)).cpu()], 1)
    found = made.step(actions_at(one, frames)).latents.cpu()
    with torch.no_grad():
        slow = slow_frame(dynamics.cpu(), past, one.trajectory, made.seeds.cpu(), 4).squeeze(1)
        torch.testing.assert_close(found, slow, atol=tolerance, rtol=0)


@pytest.mark.gpu
@BOTH
def test_a_graph_dreams_as_the_cpu_does(commit):
    dynamics, one = trained(dim=64), clip(frames=14)
    found = {}
    for device, graph in (("cpu", False), ("cuda", True)):
        made = engine(dynamics.to(device), commit=commit, precision="float32", graph=graph)
        made.observe(one.latents[:, :3], one.trajectory.frames(slice(0, 3)))
        active, latents = torch.tensor([True, False, True, True]), []
        for t in range(3, 14):
            given = {name: values.to(device) for name, values in actions_at(one, t).items()}
            latents.append(made.step(given, None if t % 3 else active).latents.cpu())
        made.check()
        found[device] = torch.stack(latents)[[0, 1, 3, 4, 6, 7]]
    torch.testing.assert_close(found["cuda"], found["cpu"], atol=2e-3, rtol=2e-3)


@pytest.mark.gpu
def test_a_step_never_waits_for_the_device():
    dynamics, one = trained(dim=64).cuda(), clip()
    made = engine(dynamics)
    given = {name: values.cuda() for name, values in actions_at(one, 0).items()}
    made.step(given)
    made.step(actions_at(one, 0))  # pinned memory is there from now on
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            made.step(given)
            made.step(actions_at(one, 1))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    made.step(given | {"move": torch.full((4,), 7, device="cuda")})
    with pytest.raises(DataError, match="given on the device"):
        made.check()


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_row_told_its_own_tokens_is_an_engine_told_them_and_the_others_are_what_they_were(pattern):
    """Told before its first frame and told anew in the middle; in a context of some rows, and in dreamed frames."""
    dynamics, one = trained(pattern=pattern), clip(frames=12)
    tokens, changed = torch.randn(4, 3, 32), torch.randn(3, 32)
    options = {"keep": ("agent",)}

    def run(made, rows, told):
        chosen = torch.arange(len(rows))
        found = [made.observe(one.latents[part, :4], one.trajectory.rows(part).frames(slice(0, 4)), chosen[at])["agent"]
                 for part, at in ((rows[:1], slice(0, 1)), (rows[1:], slice(1, None))) if len(part)]
        found = [torch.cat(found)]
        for t in range(4, 12):
            if t == 7 and told:
                made.tell({"agent": changed}, torch.tensor(told))
            found.append(made.step({name: value[rows] for name, value in actions_at(one, t).items()}
                                   ).outputs["agent"].unsqueeze(1).clone())
        return torch.cat(found, 1)

    every = torch.arange(4)
    before = run(engine(dynamics, tokens={"agent": tokens}, **options), every, [])
    after = run(engine(dynamics, tokens={"agent": tokens}, **options), every, [2])
    assert torch.equal(before[[0, 1, 3]], after[[0, 1, 3]]) and torch.equal(before[2, :7], after[2, :7])
    assert (before[2, 7] - after[2, 7]).abs().max() > 1e-2
    alone = DreamEngine(dynamics, 1, tokens={"agent": tokens[2]}, **options)
    alone.reset(seeds=SEEDS[2:3])
    torch.testing.assert_close(run(alone, every[2:3], [0])[0], after[2], atol=1e-4, rtol=0)


def test_tokens_go_with_a_rows_state_and_stay_when_it_begins_anew():
    dynamics, one = trained(), clip()
    made = engine(dynamics, tokens={"agent": torch.randn(3, 32)}, keep=("agent",))
    made.tell({"agent": torch.randn(1, 3, 32)}, torch.tensor([1]))
    state = made.state(torch.tensor([1]))
    first = made.step(actions_at(one, 0)).outputs["agent"][1]
    made.tell({"agent": torch.randn(4, 3, 32)})
    made.load(state, torch.tensor([1]))
    assert torch.equal(made.step(actions_at(one, 0)).outputs["agent"][1], first)
    made.reset()
    assert torch.equal(made.step(actions_at(one, 0)).outputs["agent"][1], first)
    for wrong in ({"agent": torch.randn(2, 3, 32)}, {"other": torch.randn(3, 32)}, {"agent": torch.randn(2, 32)}):
        with pytest.raises(ValueError, match="expected those that the engine was made with, agent"):
            made.tell(wrong)


def test_tokens_that_nobody_reads_yet_are_left_out():
    """K passes make a frame without them, one commits it with them."""
    made = engine(trained(), tokens={"agent": torch.randn(3, 32)}, keep=("agent",))
    looks, forward = [], made.model.transformer.forward
    made.model.transformer.forward = lambda tokens, *rest, **options: looks.append(
        tokens.shape[2]) or forward(tokens, *rest, **options)
    made.step()
    *passes, commit = looks
    assert len(passes) == 4 and {commit - 3} == set(passes)
