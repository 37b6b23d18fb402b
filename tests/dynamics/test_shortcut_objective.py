from collections import Counter
from dataclasses import replace

import pytest
import torch
from little import build, clip

from wakedream.dynamics import shortcut
from wakedream.dynamics.config import DynamicsObjectiveConfig
from wakedream.dynamics.dynamics import Look
from wakedream.dynamics.forcing import draw, shortcut_losses, targets
from wakedream.dynamics.objective import DynamicsObjective
from wakedream.dynamics.rows import row_segments
from wakedream.presets.dynamics import PRESETS, dynamics_preset
from wakedream.training.loop import Objective


def make(dynamics=None, batch_size=8, **changes) -> DynamicsObjective:
    config = DynamicsObjectiveConfig(**{"bootstrap_from": 10} | changes)
    return DynamicsObjective(dynamics or build(), config, batch_size)


def losses(objective, one, seed=0):
    torch.manual_seed(seed)
    return objective(one)


def test_it_is_what_the_loop_takes():
    assert isinstance(make(), Objective)


def test_flow_alone_before_the_bootstrap_begins():
    objective = make()
    assert not objective.prepare(9)
    found = losses(objective, clip(batch=8))
    assert set(found) == {"shortcut", "flow"} and found["shortcut"] == found["flow"]
    assert not objective.model.shortcut
    assert objective.prepare(10) and set(losses(objective, clip(batch=8))) == {"shortcut", "flow", "bootstrap"}
    assert objective.model.shortcut
    assert not make(bootstrap_fraction=0.0).prepare(10_000)


def test_every_frame_weighs_the_same_in_flow_and_bootstrap(monkeypatch):
    """On one scale: each brought to its own, the far smaller bootstrap would outweigh the flow."""
    objective, one, seen = make(), clip(batch=32, frames=16), {}
    forward = objective.model.forward

    def spy(noised, *rest, **more):
        seen.setdefault("coarse", (noised.step_indices < 3).float().mean())  # the look comes first, then the teacher's
        return forward(noised, *rest, **more)

    monkeypatch.setattr(objective.model, "forward", spy)
    objective.prepare(10)
    found = losses(objective, one)
    assert objective.weights == {"shortcut": 1.0, "flow": 0.0, "bootstrap": 0.0} and 0.09 < seen["coarse"] < 0.16
    torch.testing.assert_close(found["shortcut"], torch.lerp(found["flow"], found["bootstrap"], seen["coarse"]))


def kinds_met(run, steps=4000) -> tuple[set, Counter]:
    """Kinds of rows by step index, as the objective draws them for batches of that shape; and how often each row
    bootstraps."""
    model = build(finest_steps=run.model.finest_steps)
    objective = DynamicsObjective(model, replace(run.objective, bootstrap_from=0), run.loader.batch_size)
    segments, met, rows = row_segments(run.loader), set(), Counter()
    names = {0: "long", run.loader.length - 1: "images", run.loader.length // run.loader.short - 1: "short"}
    kinds = [names[int(last)] for last in segments[:, -1]]
    rows_of = replace(clip(batch=len(segments), frames=segments.shape[1]), segments=segments)
    clean = torch.zeros(*segments.shape, 1, 1)
    torch.manual_seed(0)
    for step in range(steps):
        objective.prepare(step)
        drawn = objective.draw(clean, rows_of.starts)
        if drawn.rows is not None:
            for row in drawn.rows.tolist():
                rows[row] += 1
        indices = drawn.noised.step_indices
        met |= {(kind, index) for row, kind in enumerate(kinds) for index in indices[row].unique().tolist()}
    return met, rows


@pytest.mark.parametrize("name", PRESETS)
def test_in_every_preset_each_kind_of_row_meets_each_step(name):
    run = dynamics_preset(name)
    met, rows = kinds_met(run, 300)
    kinds = {kind for kind, _ in met}
    assert kinds == {"images", "short", "long"}
    assert met == {(kind, index) for kind in kinds for index in range(run.model.finest_steps.bit_length())}
    assert len(rows) == run.loader.batch_size


def test_where_a_dream_from_nothing_begins_larger_steps_are_never_rare():
    """First frames of clips and images always take one in bootstrap rows, other frames half of the time; a row
    of images is drawn three times as often as a row without a start."""
    objective = make(batch_size=4, bootstrap_from=0)
    segments = torch.zeros(4, 16, dtype=torch.int64)
    segments[0], segments[1, 8:] = torch.arange(16), 1
    one = clip(batch=4, frames=16, segments=segments)
    assert one.starts.sum() == 16 + 2 + 2 and one.starts[0].all() and one.starts[1].nonzero().tolist() == [[0], [8]]
    objective.prepare(0)
    torch.manual_seed(0)
    drawn, others = torch.zeros(4), []
    for _ in range(4000):
        found = objective.draw(torch.zeros(4, 16, 1, 1), one.starts)
        drawn[found.rows] += 1
        larger = found.noised.step_indices[found.rows] < 3
        first = one.starts[found.rows]
        assert larger[first].all()
        others.append(larger[~first])
    assert torch.cat(others).float().mean() == pytest.approx(0.5, abs=0.03)
    assert drawn[0] / drawn[2:].mean() == pytest.approx(3 / 1.125, abs=0.3)
    assert drawn[1] / drawn[2:].mean() == pytest.approx(1.25 / 1.125, abs=0.15)


@pytest.mark.parametrize("batch", [*range(1, 9), 16, 39])
def test_a_quarter_of_all_rows_bootstrap_at_most_and_some_in_any_batch_size(batch):
    objective, drawn, steps = make(batch_size=batch), 0, 2000
    for step in range(10, 10 + steps):
        said = objective.prepare(step)
        rows = objective.draw(torch.zeros(batch, 2, 1, 1)).rows
        assert said == (rows is not None)
        if rows is not None:
            assert len(rows) == len(set(rows.tolist())) == max(1, batch // 4)
            drawn += len(rows)
    assert 0.124 <= drawn / (batch * steps) <= 0.25
    assert objective.model.shortcut


def test_the_flag_says_that_rows_were_drawn():
    objective = make(batch_size=1)
    first = next(step for step in range(10, 20) if objective.prepare(step) or objective.model.shortcut)
    assert objective.model.shortcut and objective.draw(torch.zeros(1, 2, 1, 1)).rows is not None
    assert 10 <= first < 14
    objective.prepare(first + 1)
    assert objective.model.shortcut  # it has learned them


def test_given_levels_steps_and_noise_are_taken_and_rows_fixed_at_the_commit_level():
    clean, noise = torch.randn(2, 4, 6, 8, 6)
    levels, indices = torch.randint(8, (4, 6)), torch.full((4, 6), 3)
    given = draw(clean, 8, levels=levels, step_indices=indices, noise=noise).noised
    tau = levels[..., None, None] / 8
    torch.testing.assert_close(given.latents, (1 - tau) * noise + tau * clean)
    fixed = torch.tensor([True, False, False, True])[:, None].expand(4, 6)
    found = draw(clean, 8, torch.tensor([0, 1]), noise=noise, at_commit=fixed).noised
    assert (found.levels[fixed] == 7).all() and (found.step_indices[fixed] == 3).all()
    torch.testing.assert_close(found.latents[0], noise[0] / 8 + clean[0] * 7 / 8)
    assert (found.step_indices[1] < 3).any() and (found.step_indices[2] == 3).all()


@pytest.mark.parametrize(("share", "committed"), [(0.0, 0), (0.25, 2), (1.0, 8)])
def test_a_share_of_the_rows_stands_at_the_commit_level_and_no_larger_step_is_drawn_there(share, committed):
    objective = make(batch_size=8, commit_fraction=share)
    objective.prepare(10)
    found = objective.draw(torch.randn(8, 16, 4, 4))
    whole = (found.noised.levels == 7).all(1) & (found.noised.step_indices == 3).all(1)
    assert whole.tolist() == [False] * (8 - committed) + [True] * committed
    assert found.rows is None if share == 1 else found.rows.max() < 8 - committed


def test_the_losses_under_given_noise_are_those_of_a_plain_loop():
    """Frame by frame from the definition (paper eq. 7 and 8), flow rows and a bootstrap row."""
    objective, one = make(), clip(batch=3)
    dynamics = teacher = objective.model
    clean, noise = dynamics.standardise(one.latents), torch.randn(one.latents.shape)
    levels, indices = torch.randint(8, (3, 6)), torch.full((3, 6), 3)
    levels[1], indices[1] = torch.tensor([0, 4, 2, 7, 0, 6]), torch.tensor([0, 1, 2, 3, 1, 2])
    drawn = draw(clean, 8, torch.tensor([1]), levels=levels, step_indices=indices, noise=noise)
    mask = torch.tensor([[True] * 6, [True] * 6, [False] * 6])
    with torch.no_grad():
        look = objective.look(one, drawn.noised)
        found = objective.losses(one, clean, drawn, look, mask)
        z, tau, d = drawn.noised.latents[1:2], levels[1:2] / 8.0, 0.5 ** indices[1:2].double()
        coarse = indices[1:2] < 3
        wide = [value[..., None, None].float() for value in (tau, d)]
        half = shortcut.Noised(z, levels[1:2], indices[1:2] + coarse)
        row = one.rows(torch.tensor([1])).trajectory
        b1 = (teacher(half, row).latents - z) / (1 - wide[0])
        moved = torch.where(coarse[..., None, None], z + b1 * wide[1] / 2, z)
        later = levels[1:2] + torch.where(coarse, (d * 4).long(), 0)
        said = teacher(shortcut.Noised(moved, later, half.step_indices), row).latents
        b2 = (said - moved) / (1 - wide[0] - wide[1] / 2)
        flow, bootstrap = [], []
        for b in range(2):
            for t in range(6):
                weight, said = 0.9 * levels[b, t] / 8 + 0.1, look.latents[b, t]
                if b == 1 and indices[1, t] < 3:
                    target = z[0, t] + (1 - tau[0, t]) * (b1 + b2)[0, t] / 2
                    bootstrap.append(weight * (said - target).square().mean())
                else:
                    flow.append(weight * (said - clean[b, t]).square().mean())
    torch.testing.assert_close(found["flow"], torch.stack(flow).mean())
    torch.testing.assert_close(found["bootstrap"], torch.stack(bootstrap).mean())
    torch.testing.assert_close(found["shortcut"], torch.stack(flow + bootstrap).mean())


def test_a_model_that_tells_the_truth_has_no_loss(monkeypatch):
    """In flow, and in the bootstrap too, since a teacher that tells the truth leads there in any number of steps."""
    objective, one = make(), clip(batch=8)
    clean = objective.model.standardise(one.latents)
    monkeypatch.setattr(objective.model, "forward", lambda *a, **k: Look(clean, {}))
    monkeypatch.setattr(objective, "teach", lambda noised, part: objective.model.standardise(part.latents))
    objective.prepare(10)
    found = losses(objective, one)
    assert found["flow"] == 0 and found["bootstrap"] < 1e-10


def test_the_flow_loss_is_the_weighted_distance_to_the_data(monkeypatch):
    objective, one = make(bootstrap_fraction=0.0), clip(batch=64, frames=8)
    seen = {}

    def zero(noised, *_, **__):
        seen.update(levels=noised.levels, indices=noised.step_indices, noisy=noised.latents)
        return Look(torch.zeros_like(noised.latents), {})

    monkeypatch.setattr(objective.model, "forward", zero)
    clean = objective.model.standardise(one.latents)
    found = losses(objective, one)["flow"]
    weight = 0.9 * seen["levels"] / 8 + 0.1
    torch.testing.assert_close(found, (clean.square().mean((2, 3)) * weight).mean())
    assert (seen["indices"] == 3).all() and set(seen["levels"].flatten().tolist()) == set(range(8))
    at_zero = seen["noisy"][seen["levels"] == 0]
    assert at_zero.std() == pytest.approx(1, abs=0.05)  # level 0 is noise alone
    flat = make(objective.model, bootstrap_fraction=0.0, ramp=False)
    torch.testing.assert_close(losses(flat, one)["flow"], clean.square().mean())


def test_errors_of_velocities_weigh_by_the_distance_to_go(monkeypatch):
    """|x - x'|^2 / (1 - tau)^2 is |v - v'|^2."""
    objective, one = make(build(predict="v"), bootstrap_fraction=0.0, ramp=False), clip(batch=8)
    levels = []

    def off(noised, *_, **__):
        levels.append(noised.levels)
        return Look(objective.model.standardise(one.latents) + 0.1, {})

    monkeypatch.setattr(objective.model, "forward", off)
    found = losses(objective, one)["flow"]
    torch.testing.assert_close(found, (0.01 / (1 - levels[0] / 8).square()).mean(), rtol=1e-4, atol=0)


def test_the_teacher_is_asked_twice_and_keeps_frames_at_the_smallest_step(monkeypatch):
    segments = torch.arange(8)[:, None].clamp(max=5) <= torch.arange(6)  # every row is cut elsewhere
    objective, one = make(), clip(batch=8, segments=segments.long())
    objective.prepare(10)
    asked = []
    teach = objective.teach

    def listen(noised, part):
        asked.append((*noised, part.segments))
        return teach(noised, part)

    monkeypatch.setattr(objective, "teach", listen)
    chosen = torch.tensor([5, 2])
    monkeypatch.setattr("wakedream.dynamics.objective.bootstrap_rows", lambda *_: chosen)
    losses(objective, one)
    (z1, l1, s1, segments), (z2, l2, s2, _) = asked
    assert l1.shape == (2, 6) and torch.equal(segments, one.segments[chosen])
    still = l1 == l2
    assert still.any() and (~still).any()
    assert (s1[still] == 3).all() and torch.equal(z1[still], z2[still])
    assert torch.equal(s1, s2)
    moved = ~still
    step = 0.5 ** s1[moved].double()  # of each half
    torch.testing.assert_close(l2[moved] / 8.0, l1[moved] / 8.0 + step, check_dtype=False)
    assert not torch.equal(z1[moved], z2[moved])


def test_a_target_has_no_gradient_and_is_of_the_weights_as_they_are():
    objective, one = make(), clip(batch=8)
    objective.prepare(10)
    clean = objective.model.standardise(one.latents)
    torch.manual_seed(0)
    drawn = objective.draw(clean)

    def target():
        return targets(objective.teach, one, drawn, clean, 8)

    before = target()
    assert not before.requires_grad
    with torch.no_grad():
        objective.model.to_latent.weight.normal_()
    rows = torch.zeros(8, dtype=torch.bool)
    rows[drawn.rows] = True
    assert not torch.equal(target()[rows], before[rows]) and torch.equal(target()[~rows], clean[~rows])


def test_gradients_are_the_same_whether_targets_are_made_before_the_look_or_after():
    """In mixed precision too, where weights that were cast without a gradient would be taken for the look."""
    objective, one = make(), clip(batch=8)
    objective.prepare(10)
    torch.nn.init.normal_(objective.model.to_latent.weight)
    model, clean = objective.model, objective.model.standardise(one.latents)
    torch.manual_seed(0)
    drawn = objective.draw(clean)

    def gradients(order):
        model.zero_grad()
        made = {}
        with torch.autocast("cpu", torch.bfloat16):
            for what in order:
                made[what] = (objective.look(one, drawn.noised) if what == "look" else
                              targets(objective.teach, one, drawn, clean, 8))
            shortcut_losses(model.config, made["look"].latents, made["target"], drawn)["shortcut"].backward()
        return [weight.grad for weight in model.parameters()]

    after, before = gradients(("look", "target")), gradients(("target", "look"))
    assert all(gradient is not None and gradient.abs().max() > 0 for gradient in after)
    assert all(torch.equal(*pair) for pair in zip(after, before, strict=True))


def test_only_pairs_on_the_grid_reach_the_model(monkeypatch):
    objective, one, seen = make(), clip(batch=8, frames=32), set()
    objective.prepare(10)
    forward = objective.model.forward

    def listen(noised, *rest, **more):
        seen.update(zip(noised.levels.flatten().tolist(), noised.step_indices.flatten().tolist(), strict=True))
        return forward(noised, *rest, **more)

    monkeypatch.setattr(objective.model, "forward", listen)
    for seed in range(20):
        losses(objective, one, seed)
    assert seen == {(level, index) for index in range(4) for level in range(0, 8, 8 >> index)}
    assert (shortcut.commit_level(8), 3) in seen
