"""Laws of stage 3's losses: which rows, and which weights, carry which."""

from dataclasses import replace

import pytest
import torch

from wakedream.agent.batches import AgentBatches
from wakedream.agent.cloning import CloningObjective
from wakedream.agent.config import AgentLoaderConfig, CloningConfig
from wakedream.errors import ConfigError
from wakedream.training.balance import LossBalance


@pytest.mark.parametrize("weight", [1.0, 0.0])
def test_without_the_video_loss_the_dynamics_model_learns_for_the_heads_alone(known, agent, weight):
    store, _, latents, _ = known
    loader = AgentLoaderConfig(batch_size=8, length=12, short=4, relevant="all")
    objective = CloningObjective(agent.train().requires_grad_(True), replace(
        CloningConfig(bootstrap_from=0), video_weight=weight), 8, loader.num_relevant)
    with AgentBatches(store, latents, loader) as batches:
        LossBalance(objective.weights)(objective(next(batches))).backward()
    drawn = agent.dynamics.to_latent.weight.grad  # what puts out latents
    assert (drawn is not None and bool(drawn.any())) == (weight > 0)
    assert any(one.grad is not None and one.grad.any() for one in agent.dynamics.transformer.parameters())


@pytest.mark.parametrize("name", ["video_weight", "loss_floor"])
def test_a_negative_weight_is_refused(name):
    with pytest.raises(ConfigError, match=f"{name} is -1"):
        CloningConfig(**{name: -1})


@pytest.mark.parametrize(("floor", "pull"), [(0.1, 0.01), (0.0, 1.0)])
def test_what_the_heads_have_all_but_learned_pulls_no_longer(agent, floor, pull):
    objective = CloningObjective(agent, CloningConfig(loss_floor=floor), 8, 4)
    balance = LossBalance(objective.weights, floors=objective.floors)
    losses = {name: torch.tensor(1e-3, requires_grad=True) for name in ("shortcut", "policy", "reward", "continue")}
    balance(losses).backward()
    assert {name: loss.grad.item() for name, loss in losses.items()} == pytest.approx(
        {name: 1e3 if name == "shortcut" else 1e3 * pull for name in losses})


def test_uniform_rows_alone_carry_the_video_loss_and_relevant_ones_alone_the_cloning_loss(known, agent):
    store, _, latents, _ = known
    loader = AgentLoaderConfig(batch_size=8, length=12, short=4, relevant="all")
    objective = CloningObjective(agent, CloningConfig(bootstrap_from=0), 8, loader.num_relevant)
    with AgentBatches(store, latents, loader) as batches:
        clip = next(batches)
    uniform = 8 - loader.num_relevant

    def losses(changed):
        torch.manual_seed(0)
        with torch.no_grad():
            return objective(changed)

    before = losses(clip)
    actions = {name: torch.cat([value[:uniform].flip(1), value[uniform:]]) for name, value in
               clip.trajectory.actions.items()}
    other = losses(replace(clip, trajectory=replace(clip.trajectory, actions=actions)))
    torch.testing.assert_close(other["policy"], before["policy"])
    assert not torch.equal(other["flow"], before["flow"])
    fresh = replace(clip, latents=torch.cat([clip.latents[:uniform], clip.latents[uniform:].flip(1)]))
    after = losses(fresh)
    torch.testing.assert_close(after["flow"], before["flow"])
    assert not torch.equal(after["policy"], before["policy"])
