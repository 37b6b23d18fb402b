"""A seed below 0, which not every generator takes, is refused wherever one comes in, by its option's name."""

from pathlib import Path

import pytest

from wakedream.data.sampler import WindowSampler
from wakedream.environments.config import RecordConfig
from wakedream.errors import ConfigError
from wakedream.evaluation.config import DreamConfig, EvaluateConfig
from wakedream.training.config import TrainConfig


@pytest.mark.parametrize(("make", "name"), [
    (lambda seed: TrainConfig(seed=seed), "--train.seed"),
    (lambda seed: EvaluateConfig(Path("run"), Path("data"), seed=seed), "--seed"),
    (lambda seed: DreamConfig(Path("run"), Path("a.mp4"), seed=seed), "--seed"),
    (lambda seed: RecordConfig("crafter", "data", 10, seed=seed), "--seed"),
    (lambda seed: WindowSampler([10], 4, seed=seed), "the sampler's seed")],
    ids=["train", "evaluate", "dream", "record", "sampler"])
def test_a_seed_that_cannot_be_is_refused(make, name):
    make(0), make(2**63 - 1)
    for seed in (-1, 2**63):
        with pytest.raises(ConfigError, match=rf"{name}.* {seed}: expected a whole number from 0 to 2\^63 - 1"):
            make(seed)
