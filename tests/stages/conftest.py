"""A small data set and a small tokenizer, the real ones."""

from pathlib import Path

import numpy as np
import pytest

from wakedream.data.actions import ActionSpec
from wakedream.data.config import LoaderConfig
from wakedream.data.episode import Episode
from wakedream.data.writer import StoreWriter
from wakedream.stages.config import TokenizerRun
from wakedream.tokenizer.config import TokenizerConfig, TokenizerObjectiveConfig
from wakedream.training.config import OptimConfig, TrainConfig


def squares(rng: np.random.Generator, frames: int = 24, size: int = 16) -> np.ndarray:
    """A bright square that drifts over a dark ground, uint8 (t h w c)."""
    video = np.full((frames, size, size, 3), rng.integers(0, 64, 3), np.uint8)
    x, y, dx, dy = rng.integers(0, size, 2).tolist() + rng.integers(-2, 3, 2).tolist()
    colour = rng.integers(128, 256, 3)
    for t in range(frames):
        rows, columns = (np.arange(4) + y + t * dy) % size, (np.arange(4) + x + t * dx) % size
        video[t, rows[:, None], columns] = colour
    return video


def write_data(path: Path) -> Path:
    rng = np.random.default_rng(0)
    with StoreWriter(path, ActionSpec(), frame_shape=(16, 16, 3), held_out=0.3) as writer:
        for _ in range(12):
            writer.add(Episode.of_video(squares(rng)))
    return path


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data") / "squares")


def small_run(**train) -> TokenizerRun:
    """Float32, eager, both optimizers, a line of metrics every step."""
    options = {"steps": 4, "warmup_steps": 2, "precision": "float32", "compile": "off", "device": "cpu",
               "log_every": 1, "evaluate_every": 2, "evaluation_clips": 4, "save_every": 2}
    return TokenizerRun(
        model=TokenizerConfig(height=16, width=16, patch_size=4, dim=32, encoder_depth=4, decoder_depth=4,
                              heads=2, mlp_dim=64, num_latents=4, latent_dim=8, num_registers=2, window=4),
        objective=TokenizerObjectiveConfig(lpips_weight=0),
        loader=LoaderConfig(batch_size=4, length=6, workers=1, prefetch=2, cache_gib=0.1),
        optim=OptimConfig(),
        train=TrainConfig(**{**options, **train}))


@pytest.fixture(scope="session")
def small():
    return small_run
