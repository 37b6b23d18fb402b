"""Stage 3: the video loss of stage 2, and beside it the heads: cloned actions, rewards, ends (paper section 3.3)."""

import torch
from torch import Tensor, nn

from wakedream.agent.agent import TOKENS, AgentModel
from wakedream.agent.config import CloningConfig
from wakedream.agent.targets import HeadTargets, head_targets
from wakedream.dynamics.clip import LatentClip
from wakedream.dynamics.dynamics import Dynamics, Look
from wakedream.dynamics.forcing import Drawn, masked_mean, shortcut_losses, targets
from wakedream.dynamics.objective import DynamicsObjective
from wakedream.dynamics.shortcut import Noised
from wakedream.notation import Latents


class CloningObjective(DynamicsObjective):
    """LatentClip to named losses. The first rows are uniform and carry the video loss; the last `relevant` ones are
    relevant and carry the cloning loss, a share of them at the commit level; all carry reward and continue.

    policy, reward, continue     means over all distances that are known; policy_0, reward_0, continue_0: at distance 0
    shortcut, flow, bootstrap    as in stage 2
    """

    def __init__(self, agent: AgentModel, config: CloningConfig, batch_size: int, relevant: int):
        super().__init__(agent.dynamics, config, batch_size - relevant)
        self.model, self.cloning, self.relevant = agent, config, relevant  # type: ignore[assignment]
        self.weights = {**self.weights, "shortcut": config.video_weight, "policy": config.policy_weight,
                        "reward": config.reward_weight, "continue": config.continue_weight,
                        "policy_0": 0.0, "reward_0": 0.0, "continue_0": 0.0}
        self.floors = dict.fromkeys(("policy", "reward", "continue"), config.loss_floor)

    @property
    def agent(self) -> AgentModel:
        return self.model  # type: ignore[return-value]

    @property
    def dynamics(self) -> Dynamics:
        return self.agent.dynamics

    @property
    def idle(self) -> list[nn.Module]:
        """The value is learned in imagination."""
        return [self.agent.value]

    def forward(self, clip: LatentClip) -> dict[str, Tensor]:
        rows, clean = len(clip.latents), self.dynamics.standardise(clip.latents)
        uniform = torch.arange(rows, device=clean.device)[:, None].expand(clean.shape[:2]) < rows - self.relevant
        committed = round(self.cloning.commit_fraction * self.relevant)
        drawn = self.draw_rows(clean, clip.starts, rows - self.relevant, committed)
        look = self.look(clip, drawn.noised)
        hidden = self.agent.pooled(look.outputs)
        known = head_targets(clip.trajectory, clip.segments, self.agent.config.distance)
        return {**self._video(clip, clean, drawn, look, uniform), **self._heads(hidden, known, ~uniform)}

    def look(self, clip: LatentClip, noised: Noised) -> Look:
        return self.dynamics(noised, clip.trajectory, segments=clip.segments, keep=self.agent.keep,
                             tokens={TOKENS: self.agent.tokens_of(clip.trajectory.task)})

    def teach(self, noised: Noised, clip: LatentClip) -> Latents:
        return self.dynamics(noised, clip.trajectory, segments=clip.segments).latents

    def _video(self, clip: LatentClip, clean: Latents, drawn: Drawn, look: Look,
               uniform: Tensor) -> dict[str, Tensor]:
        target = targets(self.teach, clip, drawn, clean, self.dynamics.config.finest_steps)
        return shortcut_losses(self.dynamics.config, look.latents, target, drawn, uniform, self.config.ramp)

    def _heads(self, hidden: Tensor, known: HeadTargets, relevant: Tensor) -> dict[str, Tensor]:
        agent = self.agent
        cloned = -agent.distribution(agent.policy(hidden)).log_prob(known.actions)
        reward = agent.twohot.loss(agent.reward(hidden), known.rewards)
        ends = torch.nn.functional.binary_cross_entropy_with_logits(
            agent.goes_on(hidden).float().squeeze(-1), known.goes_on, reduction="none")
        losses = {}
        for name, errors, mask in (("policy", cloned, known.known_actions & relevant[..., None]),
                                   ("reward", reward, known.known_rewards), ("continue", ends, known.known_ends)):
            losses[name] = masked_mean(errors, mask)
            losses[f"{name}_0"] = masked_mean(errors[..., 0].detach(), mask[..., 0])
        return losses
