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


def test_a_negative_weight_is_refused():
    with pytest.raises(ConfigError, match="video_weight is -1"):
        CloningConfig(video_weight=-1)


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
