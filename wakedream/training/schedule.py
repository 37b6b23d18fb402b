"""How far training is, and the learning rate there."""

from wakedream.training.config import TrainConfig


def progress(step: int, elapsed: float, config: TrainConfig) -> float:
    """Share of training done after `step` steps and `elapsed` seconds, by the nearer limit; 1: over."""
    by_time = elapsed / (config.minutes * 60) if config.minutes else 0.0
    return min(max(step / config.steps, by_time), 1.0)


def learning_rate_scale(step: int, done: float, config: TrainConfig) -> float:
    """Factor of the highest learning rate: linear warm-up, constant, linear decay to 0 over the last share.

    A pure function of step and progress, so the schedule has no state to save.
    """
    warmup = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    decay = min(1.0, (1 - done) / config.decay_fraction) if config.decay_fraction else 1.0
    return warmup * decay
