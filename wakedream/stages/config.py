"""Complete configs of the stages, what a preset returns. Imports no torch."""

from dataclasses import dataclass

from wakedream.agent.config import AgentConfig, AgentLoaderConfig, CloningConfig, ContextConfig, ImaginationConfig
from wakedream.config import added
from wakedream.data.config import LoaderConfig
from wakedream.dynamics.config import DynamicsConfig, DynamicsObjectiveConfig, LatentLoaderConfig
from wakedream.tokenizer.config import TokenizerConfig, TokenizerObjectiveConfig
from wakedream.training.config import OptimConfig, TrainConfig


@dataclass(frozen=True)
class TokenizerRun:
    """All options of a tokenizer's training."""

    model: TokenizerConfig
    objective: TokenizerObjectiveConfig
    loader: LoaderConfig
    optim: OptimConfig
    train: TrainConfig
    init: str = added("", was="")
    """begin with these weights, of a run folder or a weights folder, and a fresh optimizer (default: at random)"""


@dataclass(frozen=True)
class DynamicsRun:
    """All options of a dynamics model's training."""

    model: DynamicsConfig
    objective: DynamicsObjectiveConfig
    loader: LatentLoaderConfig
    optim: OptimConfig
    train: TrainConfig
    tokenizer: str = ""
    """the tokenizer's run folder or weights folder, or the name of one that comes with wakedream"""
    latents: str = ""
    """where the data set's latents are kept (default: in the tokenizer's folder, under latents/; of one that
    comes with wakedream in ~/.cache/wakedream)"""
    init: str = added("", was="")
    """begin with these weights, of a run folder or a weights folder, and a fresh optimizer (default: at random)"""


@dataclass(frozen=True)
class AgentRun:
    """All options of an agent's cloning."""

    model: AgentConfig
    objective: CloningConfig
    loader: AgentLoaderConfig
    optim: OptimConfig
    train: TrainConfig
    world: str = ""
    """the dynamics model's run folder, or a world's folder"""
    latents: str = ""
    """where the data set's latents are kept (default: in the world's tokenizer's folder, under latents/; of one that
    comes with wakedream in ~/.cache/wakedream)"""
    init: str = ""
    """begin with these weights, of an agent's run folder or a weights folder, and a fresh optimizer"""


@dataclass(frozen=True)
class ImaginationRun:
    """All options of an agent's imagination."""

    objective: ImaginationConfig
    loader: ContextConfig
    optim: OptimConfig
    train: TrainConfig
    agent: str = ""
    """the cloned agent's run folder"""
    latents: str = ""
    """where the data set's latents are kept (default: in the agent's tokenizer's folder, under latents/; of one that
    comes with wakedream in ~/.cache/wakedream)"""
    init: str = ""
    """begin with these weights, of an agent's run folder or a weights folder; the prior stays that of --agent"""
