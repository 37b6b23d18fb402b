"""Complete configs of the stages, what a preset returns. Imports no torch."""

from dataclasses import dataclass

from wakedream.data.config import LoaderConfig
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
