import copy

import pytest
import torch
from little import build, clip

from wakedream.dynamics import shortcut
from wakedream.dynamics.config import DynamicsObjectiveConfig, LatentLoaderConfig
from wakedream.dynamics.objective import DynamicsObjective
from wakedream.dynamics.rows import row_segments
from wakedream.training.loop import Objective


def make(dynamics=None, **changes) -> DynamicsObjective:
    objective = DynamicsObjective(dynamics or build(), DynamicsObjectiveConfig(**{"bootstrap_from": 10} | changes))
    objective.follow(copy.deepcopy(objective.model))
    return objective


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

    def spy(noisy, levels, sizes, *rest, **more):
        seen["coarse"] = (sizes < 3).float().mean()
        return forward(noisy, levels, sizes, *rest, **more)

    monkeypatch.setattr(objective.model, "forward", spy)
    objective.prepare(10)
    found = losses(objective, one)
    assert objective.weights == {"shortcut": 1.0, "flow": 0.0, "bootstrap": 0.0} and 0.09 < seen["coarse"] < 0.16
    torch.testing.assert_close(found["shortcut"], torch.lerp(found["flow"], found["bootstrap"], seen["coarse"]))


@pytest.mark.parametrize("batch", range(1, 40))
def test_bootstrap_rows_are_as_many_as_asked(batch):
    objective = make()
    objective.prepare(10)
    rows = objective.bootstrap_rows(batch)
    assert (len(range(batch)[rows]) if rows else 0) == batch // 4


def test_bootstrap_rows_are_of_all_kinds():
    config = LatentLoaderConfig()
    objective = make()
    objective.prepare(10)
    last = row_segments(config)[objective.bootstrap_rows(config.batch_size)][:, -1]
    assert set(last.tolist()) == {0, config.length // config.short - 1, config.length - 1}


def test_a_model_that_tells_the_truth_has_no_loss(monkeypatch):
    """In flow, and in the bootstrap too, since a teacher that tells the truth leads there in any number of steps."""
    objective, one = make(), clip(batch=8)
    clean = objective.model.standardise(one.latents)
    monkeypatch.setattr(objective.model, "forward", lambda *a, **k: clean)
    teacher = objective._teacher[0]
    monkeypatch.setattr(teacher, "forward", lambda *a, **k: clean[objective.bootstrap_rows(8)])
    objective.prepare(10)
    found = losses(objective, one)
    assert found["flow"] == 0 and found["bootstrap"] < 1e-10


def test_the_flow_loss_is_the_weighted_distance_to_the_data(monkeypatch):
    objective, one = make(bootstrap_fraction=0.0), clip(batch=64, frames=8)
    seen = {}

    def zero(noisy, levels, sizes, *_, **__):
        seen.update(levels=levels, sizes=sizes, noisy=noisy)
        return torch.zeros_like(noisy)

    monkeypatch.setattr(objective.model, "forward", zero)
    clean = objective.model.standardise(one.latents)
    found = losses(objective, one)["flow"]
    weight = 0.9 * seen["levels"] / 8 + 0.1
    torch.testing.assert_close(found, (clean.square().mean((2, 3)) * weight).mean())
    assert (seen["sizes"] == 3).all() and set(seen["levels"].flatten().tolist()) == set(range(8))
    at_zero = seen["noisy"][seen["levels"] == 0]
    assert at_zero.std() == pytest.approx(1, abs=0.05)  # level 0 is noise alone
    flat = make(objective.model, bootstrap_fraction=0.0, ramp=False)
    torch.testing.assert_close(losses(flat, one)["flow"], clean.square().mean())


def test_errors_of_velocities_weigh_by_the_distance_to_go(monkeypatch):
    """|x - x'|^2 / (1 - tau)^2 is |v - v'|^2."""
    objective, one = make(build(predict="v"), bootstrap_fraction=0.0, ramp=False), clip(batch=8)
    levels = []

    def off(noisy, level, *_, **__):
        levels.append(level)
        return objective.model.standardise(one.latents) + 0.1

    monkeypatch.setattr(objective.model, "forward", off)
    found = losses(objective, one)["flow"]
    torch.testing.assert_close(found, (0.01 / (1 - levels[0] / 8).square()).mean(), rtol=1e-4, atol=0)


def test_the_teacher_is_asked_twice_and_keeps_frames_at_the_smallest_step(monkeypatch):
    segments = torch.arange(8)[:, None].clamp(max=5) <= torch.arange(6)  # every row is cut elsewhere
    objective, one = make(), clip(batch=8, segments=segments.long())
    objective.prepare(10)
    asked = []
    teacher = objective._teacher[0]
    forward = teacher.forward

    def listen(noisy, levels, sizes, actions, has_action, *, segments):
        asked.append((noisy, levels, sizes, segments))
        return forward(noisy, levels, sizes, actions, has_action, segments=segments)

    monkeypatch.setattr(teacher, "forward", listen)
    losses(objective, one)
    (z1, l1, s1, segments), (z2, l2, s2, _) = asked
    assert l1.shape == (2, 6) and torch.equal(segments, one.segments[objective.bootstrap_rows(8)])
    still = l1 == l2
    assert still.any() and (~still).any()
    assert (s1[still] == 3).all() and torch.equal(z1[still], z2[still])
    assert torch.equal(s1, s2)
    moved = ~still
    step = 0.5 ** s1[moved].double()  # of each half
    torch.testing.assert_close(l2[moved] / 8.0, l1[moved] / 8.0 + step, check_dtype=False)
    assert not torch.equal(z1[moved], z2[moved])


def test_the_teacher_learns_nothing_and_follows_the_averages():
    objective = make()
    averaged = copy.deepcopy(objective.model)
    objective.follow(averaged)
    assert not any("_teacher" in name for name in objective.state_dict())
    objective.prepare(10)
    before = losses(objective, clip(batch=8))
    before["shortcut"].backward()
    assert all(p.grad is None for p in averaged.parameters())
    assert all(p.grad is not None for p in objective.model.parameters())
    with torch.no_grad():
        averaged.to_latent.weight.mul_(0.5)
    after = losses(objective, clip(batch=8))
    assert torch.equal(before["flow"], after["flow"]) and not torch.equal(before["bootstrap"], after["bootstrap"])


def test_without_averages_the_model_teaches_itself():
    objective = make()
    own = losses(objective, clip(batch=8))
    objective.prepare(10)
    objective._teacher = ()
    found = losses(objective, clip(batch=8))
    assert set(own) == {"shortcut", "flow"} and found["bootstrap"] > 0
    found["shortcut"].backward()
    assert objective.compiled == objective.blocks


def test_only_pairs_on_the_grid_reach_the_model(monkeypatch):
    objective, one, seen = make(), clip(batch=8, frames=32), set()
    objective.prepare(10)
    for model in (objective.model, objective._teacher[0]):
        forward = model.forward

        def listen(noisy, levels, sizes, *rest, forward=forward, **more):
            seen.update(zip(levels.flatten().tolist(), sizes.flatten().tolist(), strict=True))
            return forward(noisy, levels, sizes, *rest, **more)

        monkeypatch.setattr(model, "forward", listen)
    for seed in range(20):
        losses(objective, one, seed)
    assert seen == {(level, size) for size in range(4) for level in range(0, 8, 8 >> size)}
    assert (shortcut.commit_level(8), 3) in seen
