"""Stage 4: the policy acts inside the dream, and learns from what the heads say of it (paper section 3.3)."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from wakedream.agent.agent import TOKENS, AgentModel
from wakedream.agent.batches import Contexts
from wakedream.agent.config import ImaginationConfig
from wakedream.agent.heads import Head
from wakedream.agent.pmpo import pmpo, weighted_mean
from wakedream.agent.returns import average_parts, average_value, lambda_returns, reached
from wakedream.data.trajectory import Actions
from wakedream.dynamics.engine import DreamEngine

AVERAGE_DECAY = 0.98  # a step
SEEN = ("pmpo", "kl", "return", "dream_reward", "average", "length", "good", "entropy", "value_error")


@dataclass(frozen=True)
class Rollout:
    """H dreamed frames after each of b contexts.

    hidden   what the agent read at frames 0 (the context's last) to H, (b h1 w), each at its commit
    actions  (b h ...): [:, t] was taken at frame t and led into frame t + 1
    latents  of the dreamed frames (b h l e) in [-1, 1]
    """

    hidden: Float[Tensor, "b h1 w"]
    actions: Actions
    latents: Float[Tensor, "b h l e"]


Seen = tuple[Rollout, Float[Tensor, "b h"], Float[Tensor, "b h"]]  # and the rewards and whether it goes on, arriving


class Imagining:
    """Rollouts of an agent's policy, side by side in one engine that is kept. The dynamics model must not change."""

    def __init__(self, agent: AgentModel, rows: int, *, sampling_steps: int = 4, **options: Any):
        self.agent = agent
        self.engine = DreamEngine(agent.dynamics, rows, sampling_steps=sampling_steps, tokens={TOKENS: agent.tokens},
                                  keep=agent.keep, **options)

    @torch.no_grad()
    def rollout(self, contexts: Contexts, starts: int, horizon: int, policy: Head | None = None, *,
                greedy: bool = False) -> Rollout:
        """Each row does the task of its context. starts: the first rows, of whose contexts frame 0 alone counts."""
        engine, agent, clip, seeds = self.engine, self.agent, contexts.clip, contexts.seeds[:, 0]
        rows = torch.arange(engine.rows, device=engine.device)
        engine.reset(seeds=seeds)
        engine.tell({TOKENS: agent.tokens_of(clip.trajectory.task[:, -1])})
        outputs: list[dict[str, Tensor]] = []
        for part, frames in ((rows[:starts], slice(0, 1)), (rows[starts:], slice(None))):
            if len(part):
                seen = clip.rows(part).frames(frames)
                outputs.append(engine.observe(seen.latents, seen.trajectory, part))
        last = {name: torch.cat([part[name][:, -1] for part in outputs]) for name in agent.keep}
        hidden, actions, latents = [agent.pooled(last)], [], []
        for _ in range(horizon):
            taken = agent.choose(hidden[-1], seeds, engine.frames, policy, greedy=greedy)
            step = engine.step(taken)
            actions.append(taken)
            latents.append(step.latents.clone())  # a recorded step writes into the same place again
            hidden.append(agent.pooled({name: out.clone() for name, out in step.outputs.items()}))
        taken = {name: torch.stack([one[name] for one in actions], dim=1) for name in actions[0]}
        return Rollout(torch.stack(hidden, dim=1), taken, torch.stack(latents, dim=1))


class ImaginationObjective(nn.Module):
    """Contexts to named losses; the policy and the value head learn, all else is frozen.

    actor, value        what is learned from: PMPO and beta times the KL to the cloned policy; two-hot cross-entropy
    pmpo, kl            the actor's parts
    return              of the rollouts, as the heads see them; length: frames that are likely reached
    good                share of the actions with an advantage of 0 or more; entropy: of the policy
    value_error         mean distance of the value from the return; dream_reward: of a frame
    average             value of the average rollout, from which the value head counts
    """

    average: Tensor

    def __init__(self, agent: AgentModel, config: ImaginationConfig, batch_size: int, starts: int,
                 mean_over_ranks: Callable[[Tensor], Tensor] = lambda tensor: tensor):
        super().__init__()
        self.model, self.config, self.starts, self.mean_over_ranks = agent, config, starts, mean_over_ranks
        agent.requires_grad_(False)
        agent.policy.requires_grad_(True)
        agent.value.requires_grad_(True)
        self.prior = copy.deepcopy(agent.policy).requires_grad_(False)
        self.slow_value = copy.deepcopy(agent.value).requires_grad_(False)
        for name, weight in list(self.slow_value.named_parameters()):
            _as_buffer(self.slow_value, name, weight)
        self.register_buffer("average", torch.zeros(3))  # S, D, and the share of it that rollouts filled
        self.weights = {"actor": 1.0, "value": 1.0, **dict.fromkeys(SEEN, 0.0)}
        self.moves = True
        self.rows, self.updates = batch_size, config.updates
        self._seen: list[tuple[Contexts, Seen]] = []  # of this step, until all updates of it are made
        self._imagining: Imagining | None = None

    @property
    def blocks(self) -> list[nn.Module]:
        return []

    @property
    def compiled(self) -> list[nn.Module]:
        return []

    @property
    def idle(self) -> list[nn.Module]:
        return [] if self.moves else [self.model.policy]

    def prepare(self, step: int) -> bool:
        """Whether the policy learns yet."""
        self._seen = []
        self.moves = step >= self.config.value_first
        return self.moves

    def forward(self, contexts: Contexts) -> dict[str, Tensor]:
        config, agent = self.config, self.model
        rollout, rewards, goes_on = self._rolled(contexts)
        hidden = rollout.hidden
        value_logits = agent.value(hidden[:, :-1])[..., 0, :]
        with torch.no_grad():
            values = agent.value_at(hidden, self.slow_value)
            returns = lambda_returns(rewards, goes_on, values, config.gamma, config.lam)
            advantage = returns - agent.average_value - agent.twohot.mean(value_logits)
            weight = reached(goes_on)[:, :-1]
        value = agent.value_loss(value_logits, returns)
        if config.slow_weight:
            value = value + config.slow_weight * agent.value_loss(value_logits, values[:, :-1])
        policy = agent.actions_at(hidden[:, :-1])
        kl = policy.kl(agent.actions_at(hidden[:, :-1], self.prior))
        preferred = pmpo(policy.log_prob(rollout.actions), advantage, weight, config.alpha)
        far = weighted_mean(kl, weight)
        losses = {"actor": preferred + config.beta * far} if self.moves else {}
        self._follow()
        with torch.no_grad():
            seen = (preferred, far, returns[:, 0].mean(), weighted_mean(rewards, weight), agent.average_value.clone(),
                    weight.sum(1).mean(), weighted_mean((advantage >= 0).float(), weight),
                    weighted_mean(policy.entropy(), weight), weighted_mean(advantage.abs(), weight))
        return {**losses, "value": weighted_mean(value, weight), **dict(zip(SEEN, seen, strict=True))}

    @torch.no_grad()
    def _rolled(self, contexts: Contexts) -> Seen:
        """The first update of a step dreams, the others learn more from it."""
        found = next((seen for one, seen in self._seen if one is contexts), None)
        if found is None:
            found = self._roll(contexts)
            self._seen.append((contexts, found))
            self._average(*found[1:])
        return found

    def _roll(self, contexts: Contexts) -> Seen:
        if self._imagining is None:
            self._imagining = Imagining(self.model, self.rows, sampling_steps=self.config.sampling_steps)
        rollout = self._imagining.rollout(contexts, self.starts, self.config.horizon)
        arrived = rollout.hidden[:, 1:]
        return rollout, self.model.reward_at(arrived), self.model.goes_on_at(arrived)

    def _average(self, rewards: Tensor, goes_on: Tensor) -> None:
        """The mean over the last rollouts, however few there were."""
        parts = self.mean_over_ranks(average_parts(rewards, goes_on, self.config.gamma))
        self.average.lerp_(torch.cat([parts, torch.ones_like(parts[:1])]), 1 - AVERAGE_DECAY)
        self.model.average_value.copy_(average_value(self.average[:2] / self.average[2]))

    @torch.no_grad()
    def _follow(self) -> None:
        """The slow value, towards the value."""
        for name, kept in self.slow_value.named_buffers():
            kept.lerp_(self.model.value.get_parameter(name), 1 - self.config.slow_decay)


def _as_buffer(module: nn.Module, name: str, weight: Tensor) -> None:
    """It changes without a gradient, and belongs into checkpoints."""
    path, _, last = name.rpartition(".")
    owner = module.get_submodule(path)
    delattr(owner, last)
    owner.register_buffer(last, weight.detach().clone())
