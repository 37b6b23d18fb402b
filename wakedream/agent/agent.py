"""The agent: tokens beside a dynamics model, and heads that read what they put out (paper section 3.3)."""

from collections.abc import Mapping
from typing import Any, Self

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from wakedream.agent.config import AgentConfig
from wakedream.agent.distributions import ActionCodec, ActionDistribution, TwoHot
from wakedream.agent.heads import Head
from wakedream.config import from_dict, to_dict
from wakedream.data.trajectory import Actions
from wakedream.dynamics.dynamics import SPATIAL, Dynamics
from wakedream.dynamics.noise import ACTION, uniform
from wakedream.errors import ConfigError
from wakedream.model.pretrained import Pretrained

TOKENS = "agent"  # their name among a frame's tokens


class AgentModel(Pretrained):
    """One class from cloning to imagination; the dynamics model beside the agent is what it was.

    hidden (*b w): what the agent tokens of a frame put out, pooled. Indices of what is read from that of frame t:

        policy        at distance n the action that leads into frame t + n + 1
        reward        at distance n the reward that arrives with frame t + n; at 0 the frame's own
        goes_on       at distance n whether the episode goes on after frame t + n
        value         of frame t: what is still to come after it, less `average_value`, that of the average rollout:
                      rewards without an end add up to what a head would take long to say (reward centering, Naik et
                      al. 2024)
    """

    average_value: Tensor

    KIND, OUTPUT, PARTS = "agent", ("dynamics.to_latent.weight",), ("agent",)

    def __init__(self, config: AgentConfig, dynamics: Dynamics):
        """ConfigError for a world without actions."""
        super().__init__()
        if not dynamics.actions.components:
            raise ConfigError("the world knows no actions, so there is nothing that an agent could do: train its "
                              "dynamics model on a data set with actions")
        self.config, self.dynamics = config, dynamics
        dim, distances = dynamics.config.dim, config.distance + 1
        self.tokens = nn.Parameter(torch.randn(config.num_tokens, dim))
        self.tasks = nn.Embedding(len(config.tasks), dim)
        self.codec = ActionCodec(dynamics.actions, config.action_bins)
        self.twohot = TwoHot(config.bins, config.limit)
        width = dim * (config.num_tokens if config.pool == "concat" else 1)
        width += dim * dynamics.config.num_spatial if config.reads_frame else 0

        def head(outputs: int, scale: float, distances: int = distances) -> Head:
            return Head(width, outputs, distances=distances, mlp_dim=config.mlp_dim, mlp_depth=config.mlp_depth,
                        scale=scale)

        self.policy = head(sum(part.width for part in self.codec.parts), 0.01)
        self.reward = head(config.bins, 0.0)
        self.goes_on = head(1, 1.0)
        self.value = head(config.bins, 0.0, distances=1)
        self.register_buffer("average_value", torch.zeros(()))

    def tokens_of(self, task: Int[Tensor, "*b"]) -> Float[Tensor, "*b k d"]:
        """The agent tokens of frames in which this is to be done."""
        return self.tokens + self.tasks(task).unsqueeze(-2)

    @property
    def keep(self) -> tuple[str, ...]:
        """The tokens whose outputs the heads read."""
        return (TOKENS, SPATIAL) if self.config.reads_frame else (TOKENS,)

    def pooled(self, outputs: Mapping[str, Float[Tensor, "*b k d"]]) -> Float[Tensor, "*b w"]:
        """What the heads read, of the outputs of `keep` by name."""
        own = outputs[TOKENS].float()
        read = rearrange(own, "... k d -> ... (k d)") if self.config.pool == "concat" else own.mean(-2)
        if not self.config.reads_frame:
            return read
        return torch.cat([read, rearrange(outputs[SPATIAL].float(), "... s d -> ... (s d)")], dim=-1)

    def actions_at(self, hidden: Float[Tensor, "*b w"], head: Head | None = None) -> ActionDistribution:
        """The policy for the next action; head: another one's, such as the cloned policy's."""
        return self.distribution((head or self.policy)(hidden)[..., 0, :])

    def choose(self, hidden: Float[Tensor, "b w"], seeds: Int[Tensor, " b"], frames: Int[Tensor, " b"],
               policy: Head | None = None, *, greedy: bool = False) -> Actions:
        """The next actions of rows with these seeds after so many frames, from which alone their chances follow."""
        choice = self.actions_at(hidden, policy)
        numbers = uniform(seeds, frames[:, None], ACTION, choice.groups)[:, 0]
        return choice.greedy() if greedy else choice.sample(numbers)

    def distribution(self, logits: Float[Tensor, "*b n"]) -> ActionDistribution:
        return ActionDistribution(self.codec, logits, self.config.uniform)

    def reward_at(self, hidden: Float[Tensor, "*b w"]) -> Float[Tensor, "*b"]:
        """Expected, of the frame itself."""
        return self.twohot.mean(self.reward(hidden)[..., 0, :])

    def goes_on_at(self, hidden: Float[Tensor, "*b w"]) -> Float[Tensor, "*b"]:
        """The probability that the episode goes on after the frame."""
        return self.goes_on(hidden)[..., 0, 0].float().sigmoid()

    def value_at(self, hidden: Float[Tensor, "*b w"], head: Head | None = None) -> Float[Tensor, "*b"]:
        return self.average_value + self.twohot.mean((head or self.value)(hidden)[..., 0, :])

    def value_loss(self, logits: Float[Tensor, "*b n"], value: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """Of the value head's logits."""
        return self.twohot.loss(logits, value - self.average_value)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.config.num_tokens} tokens beside {self.dynamics!r}, {self.size})"

    def about(self) -> dict[str, Any]:
        return {"agent": to_dict(self.config), **self.dynamics.about()}

    @classmethod
    def build(cls, about: dict[str, Any]) -> Self:
        return cls(from_dict(AgentConfig, about["agent"]), Dynamics.build(about))
