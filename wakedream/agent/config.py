"""The shape of an agent, of what it is trained on and of its imagination. Imports no torch."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from wakedream.config import added, check
from wakedream.dynamics.config import DynamicsObjectiveConfig, LatentLoaderConfig


@dataclass(frozen=True)
class AgentConfig:
    """Tokens and heads beside a dynamics model (paper section 3.3)."""

    num_tokens: int = 4
    """agent tokens per frame"""
    pool: Literal["concat", "mean"] = "concat"
    """how the tokens' outputs become what the heads read: side by side, or their mean"""
    reads_frame: bool = False
    """the heads read the frame's spatial tokens, too, beside the agent's: small models clone many times sooner"""
    tasks: tuple[str, ...] = added(("reward",), was=("reward",))
    """what the agent can be told to do: names of events, or reward, the environment's own; by default the first"""
    mlp_dim: int = 256
    """hidden width of the heads"""
    mlp_depth: int = 2
    """hidden layers of each head"""
    distance: int = 8
    """actions, rewards and ends are predicted for this frame and so many after it (L, multi-token prediction)"""
    bins: int = 255
    """bins of rewards and values, evenly spaced in symlog"""
    limit: float = 6.0
    """the outermost bins lie at symexp of this: 402"""
    action_bins: int = 21
    """bins for each dimension of continuous actions"""
    uniform: float = 0.01
    """share of the uniform distribution in every choice of the policy: what is pushed down stays possible"""

    GONE: ClassVar[dict[str, Any]] = {"num_tasks": 1}

    def __post_init__(self) -> None:
        check(bool(self.tasks) and all(self.tasks) and len(set(self.tasks)) == len(self.tasks),
              f"tasks are {', '.join(self.tasks) or 'none'}: expected one name or more, each once")
        for name in ("num_tokens", "mlp_dim", "mlp_depth"):
            check(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}: expected at least 1")
        check(self.distance >= 0, f"distance is {self.distance}: expected 0 or more")
        check(self.bins >= 3 and self.bins % 2 == 1, f"bins is {self.bins}: expected an odd number, at least 3")
        check(self.action_bins >= 2, f"action_bins is {self.action_bins}: expected at least 2")
        check(self.limit > 0, f"limit is {self.limit}: expected more than 0")
        check(0 < self.uniform < 1, f"uniform is {self.uniform}: expected more than 0 and less than 1")


@dataclass(frozen=True)
class CloningConfig(DynamicsObjectiveConfig):
    """Stage 3: the video loss of stage 2 on uniform rows; actions, rewards and ends beside it."""

    commit_fraction: float = 0.5
    """share of the relevant rows whose frames all stand at the commit level, as a dream's past does"""
    video_weight: float = 1.0
    """of the video loss; 0: the dynamics model learns what the heads ask for, and forgets how to dream"""
    policy_weight: float = 1.0
    """of the cloning loss, on relevant rows"""
    reward_weight: float = 1.0
    """of the reward loss, on all rows"""
    continue_weight: float = 1.0
    """of the loss of whether the episode goes on, on all rows"""
    loss_floor: float = 0.1
    """a head's loss (nats) below this is no longer brought to the size of the others: what is left of it would pull
    at the weights that dream as hard as ever (docs/log.md). 0: always brought to it, as in the paper"""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("video_weight", "policy_weight", "reward_weight", "continue_weight", "loss_floor"):
            check(getattr(self, name) >= 0, f"{name} is {getattr(self, name)}: expected 0 or more")


@dataclass(frozen=True)
class AgentLoaderConfig(LatentLoaderConfig):
    """Uniform rows as in stage 2, then relevant ones: runs of frames in which, or soon after which, something happens
    that the task asks for, each task in turn; they go on over the ends of episodes."""

    relevant_fraction: float = 0.5
    """share of the rows that are relevant"""
    relevant: str = "reward"
    """what is relevant to the task reward: reward (a reward above 0), events (anything that happened), event names
    with commas, best:0.25 (the quarter of the episodes with the highest returns), or all; to others: their event"""
    reach: int = 64
    """frames past a row's last within which it may happen"""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(0 < self.relevant_fraction < 1, f"relevant_fraction is {self.relevant_fraction}: expected between 0 "
                                              "and 1")
        check(self.reach >= 0, f"reach is {self.reach}: expected 0 or more")

    @property
    def num_relevant(self) -> int:
        """Relevant rows in a batch, which is that of all rows: at least one, and at least one that is not."""
        return min(max(1, round(self.relevant_fraction * self.batch_size)), self.batch_size - 1)


@dataclass(frozen=True)
class ImaginationConfig:
    """Stage 4: rollouts, returns and PMPO (paper section 3.3, eq. 9 to 11)."""

    horizon: int = 16
    """dreamed frames of a rollout"""
    sampling_steps: int = 4
    """K of a dreamed frame"""
    gamma: float = 0.997
    """discount a frame: what lies some 1 / (1 - gamma) frames ahead counts"""
    lam: float = 0.95
    """lambda of the returns"""
    alpha: float = 0.5
    """weight of good actions against bad ones"""
    beta: float = 0.3
    """weight of the distance to the cloned policy"""
    updates: int = 4
    """of the weights from the same rollouts, which take most of a step's time"""
    value_first: int = 100
    """steps in which the value alone learns, before the policy moves"""
    slow_decay: float = 0.98
    """of the slow value, towards which the value is drawn"""
    slow_weight: float = 1.0
    """of that; 0: none"""

    def __post_init__(self) -> None:
        for name in ("horizon", "updates"):
            check(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}: expected at least 1")
        for name in ("gamma", "lam", "alpha", "slow_decay"):
            check(0 <= getattr(self, name) <= 1, f"{name} is {getattr(self, name)}: expected 0 to 1")
        for name in ("beta", "value_first", "slow_weight"):
            check(getattr(self, name) >= 0, f"{name} is {getattr(self, name)}: expected 0 or more")


@dataclass(frozen=True)
class ContextConfig:
    """Where rollouts begin."""

    batch_size: int = 64
    """rollouts side by side"""
    length: int = 16
    """frames of a context"""
    starts: float = 0.25
    """share of the contexts that are an episode's first frame alone"""
    relevant_fraction: float = 0.5
    """share of the others after which something relevant happens"""
    relevant: str = "reward"
    """what is relevant to the task reward, as in stage 3"""
    reach: int = 64
    """frames past a context's last within which it may happen"""
    cache_gib: float = 8.0
    """keep latents on the device if they take at most so many GiB"""

    def __post_init__(self) -> None:
        for name in ("batch_size", "length"):
            check(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}: expected at least 1")
        for name in ("starts", "relevant_fraction"):
            check(0 <= getattr(self, name) <= 1, f"{name} is {getattr(self, name)}: expected 0 to 1")

    @property
    def num_starts(self) -> int:
        """Contexts that are an episode's first frame alone: the first rows of a batch."""
        return round(self.starts * self.batch_size)

    @property
    def num_relevant(self) -> int:
        """Of the others those after which something relevant happens."""
        return round(self.relevant_fraction * (self.batch_size - self.num_starts))
