import pytest

from wakedream.errors import ConfigError
from wakedream.training.clock import Clock
from wakedream.training.config import OptimConfig, TrainConfig
from wakedream.training.schedule import learning_rate_scale, progress


def test_progress_follows_the_nearer_limit() -> None:
    config = TrainConfig(steps=100, minutes=1.0)
    assert progress(50, 6.0, config) == 0.5
    assert progress(50, 54.0, config) == 0.9
    assert progress(50, 120.0, config) == 1.0
    assert progress(100, 0.0, TrainConfig(steps=100)) == 1.0


def test_warm_up_constant_decay() -> None:
    config = TrainConfig(steps=100, warmup_steps=10, decay_fraction=0.4)
    scales = [learning_rate_scale(step, step / 100, config) for step in range(100)]
    assert scales[0] == pytest.approx(0.1)
    assert scales[10:60] == [1.0] * 50
    assert scales[80] == pytest.approx(0.5)
    assert 0 < scales[99] < 0.03
    assert learning_rate_scale(0, 0.0, TrainConfig(warmup_steps=0, decay_fraction=0)) == 1.0


def test_clock_counts_training_only() -> None:
    now = [0.0]
    clock = Clock(elapsed=5.0, uncounted=1, now=lambda: now[0])
    for step_seconds, other_seconds in ((30.0, 1.0), (2.0, 100.0), (2.0, 0.0)):
        now[0] += step_seconds
        clock.tick()
        now[0] += other_seconds
        clock.skip()
    assert clock.elapsed == 5.0 + 2.0 + 2.0  # neither the first step nor what was skipped
    assert clock.lap() == 0.5
    assert clock.lap() == 0.0


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"minutes": -1.0}, {"decay_fraction": 1.5},
                                   {"ema_decay": 1.0}])
def test_impossible_options_name_themselves(wrong: dict) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        TrainConfig(**wrong)


def test_impossible_learning_rate() -> None:
    with pytest.raises(ConfigError, match="positive"):
        OptimConfig(lr=0)
