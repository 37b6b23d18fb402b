"""Laws of what is said about actions, signal levels and step sizes."""

import copy
from dataclasses import replace

import pytest
import torch

from wakedream.dynamics.dynamics import Dynamics, Look
from wakedream.dynamics.shortcut import Noised, draw_flow, noised, ramp, signal_of
from wakedream.evaluation.dynamics.losses import NONE, OTHERS, TIMES, TRUE, action_losses, level_losses
from wakedream.evaluation.dynamics.report import _levels
from wakedream.evaluation.dynamics.windows import dream_clips


@pytest.fixture(scope="module")
def clip(tokenizer, played):
    return dream_clips(tokenizer, played, 6, 6, 16).clip


def ratios(found):
    return {row["actions"]: row["ratio"] for row in found["rows"]}


class Obedient(Dynamics):
    """Says that a frame's latents are its action, and that every frame without one is 9; off by a tenth."""

    def __init__(self, dynamics):
        torch.nn.Module.__init__(self)
        self.config, self.registers, self.shortcut = dynamics.config, dynamics.registers, dynamics.shortcut

    def standardise(self, latents):
        return latents

    def forward(self, noised, trajectory):
        said = torch.where(trajectory.has_action, trajectory.actions["move"].float(), 9.0) + 0.1
        return Look(said[..., None, None].expand_as(noised.latents), {})


def test_a_model_that_ignores_actions_has_ratio_one(world, clip):
    deaf = copy.deepcopy(world.dynamics)
    for name, parameter in deaf.embed_action.named_parameters():
        if name != "learned":
            torch.nn.init.zeros_(parameter)
    found = action_losses(deaf, clip)
    assert ratios(found) == {TRUE: 1, OTHERS: 1, TIMES: 1, NONE: 1}
    assert all(ratio == 1 for row in found["rows"] for ratio in row["ratio_by_level"])
    heard = ratios(action_losses(world.dynamics, clip))
    assert all(heard[name] != 1 for name in (OTHERS, TIMES, NONE))


def test_a_model_that_obeys_pays_for_other_actions(world, clip):
    latents = clip.actions["move"].float()[..., None, None].expand(-1, -1, 4, 8)
    found = action_losses(Obedient(world.dynamics), replace(clip, latents=latents))
    assert all(ratios(found)[name] > 50 for name in (OTHERS, TIMES, NONE))
    assert len(set(ratios(found).values())) == 4  # other actions are not none


def test_the_true_loss_is_the_training_loss_at_the_smallest_step(world, clip):
    found = action_losses(world.dynamics, clip, draws=1, seed=3, batch_size=4)
    torch.manual_seed(3)
    levels, indices = draw_flow(*clip.has_action.shape, 8, torch.device("cpu"))
    clean, tau = world.dynamics.standardise(clip.latents), signal_of(levels, 8)
    noisy = noised(clean, torch.randn(clean.shape), tau)
    with torch.no_grad():
        made = world.dynamics(Noised(noisy, levels, indices), clip.trajectory, segments=clip.segments).latents
    errors = (made - clean).square().mean((2, 3)) * ramp(tau)
    where = clip.has_action.clone()
    where[:, 0] = False
    assert found["rows"][0]["loss"] == pytest.approx(float(errors[where].mean()), rel=1e-4)
    assert found["frames"] == int(where.sum())


def test_the_same_seed_says_the_same_and_nobody_else_s_numbers_move(world, clip):
    torch.manual_seed(7)
    before = torch.get_rng_state()
    assert action_losses(world.dynamics, clip, seed=1) == action_losses(world.dynamics, clip, seed=1)
    assert level_losses(world.dynamics, clip, seed=1) == level_losses(world.dynamics, clip, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert action_losses(world.dynamics, clip, seed=1) != action_losses(world.dynamics, clip, seed=2)


def test_without_actions_nothing_is_said(world, clip):
    never = clip.trajectory.with_actions(clip.actions, torch.zeros_like(clip.has_action))
    unknown = replace(clip, trajectory=never)
    assert action_losses(world.dynamics, unknown) is None


def test_every_pair_of_the_grid_and_no_other(world, clip):
    cells = level_losses(world.dynamics, clip, draws=8)
    assert {(cell["step_size"], cell["signal_level"]) for cell in cells} == {
        (d, i * d) for d in (1, 0.5, 0.25, 0.125) for i in range(round(1 / d))}
    assert sum(cell["frames"] for cell in cells) == 8 * clip.has_action.numel()
    flow_only = copy.deepcopy(world.dynamics)
    flow_only.shortcut.fill_(False)
    alone = level_losses(flow_only, clip)
    assert {cell["step_size"] for cell in alone} == {0.125}
    assert ("has met the smallest step alone" in _levels(alone)) and ("smallest step alone" not in _levels(cells))


def test_the_error_stands_in_its_cell(world, clip):
    """A stand-in whose error is the level plus ten times the step's index."""

    class Told(Obedient):
        def forward(self, noised, trajectory):
            wrong = (noised.levels + 10 * noised.step_indices).float().sqrt()[..., None, None]
            return Look(torch.zeros_like(noised.latents) + wrong, {})

    zeros = replace(clip, latents=torch.zeros_like(clip.latents))
    for cell in level_losses(Told(world.dynamics), zeros):
        index = {1: 0, 0.5: 1, 0.25: 2, 0.125: 3}[cell["step_size"]]
        assert cell["error"] == pytest.approx(8 * cell["signal_level"] + 10 * index, abs=1e-4)
