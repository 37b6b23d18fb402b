"""Small data sets, a small tokenizer and a small dynamics model, the real ones."""

from pathlib import Path

import numpy as np
import pytest
import torch

from wakedream.data.actions import ActionComponent, ActionSpec
from wakedream.data.config import LoaderConfig
from wakedream.data.episode import Episode
from wakedream.data.writer import StoreWriter
from wakedream.dynamics.config import DynamicsConfig, DynamicsObjectiveConfig, LatentLoaderConfig
from wakedream.stages.config import DynamicsRun, TokenizerRun
from wakedream.tokenizer.config import TokenizerConfig, TokenizerObjectiveConfig
from wakedream.tokenizer.tokenizer import Tokenizer
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


def write_played(path: Path, choices: int = 4, size: int = 16) -> Path:
    """A bright square that goes where the action says: 0 right, 1 down, 2 left, 3 up."""
    rng = np.random.default_rng(0)
    spec = ActionSpec((ActionComponent("move", "categorical", choices),))
    with StoreWriter(path, spec, frame_shape=(size, size, 3), held_out=0.3) as writer:
        for _ in range(8):
            moves, known = rng.integers(0, 4, 40), np.arange(40) > 0
            steps = np.where(known[:, None], np.array([(0, 2), (2, 0), (0, -2), (-2, 0)])[moves], 0)
            video = np.full((40, size, size, 3), 40, np.uint8)
            for frame, (y, x) in zip(video, steps.cumsum(0), strict=True):
                frame[(np.arange(4) + y)[:, None] % size, (np.arange(4) + x) % size] = 220
            writer.add(Episode(video, {"move": moves * known}, known, np.zeros(40, np.float32), True, False))
    return path


def write_tokenizer(path: Path, seed: int = 0, **changes) -> Path:
    """The weights of an untrained one."""
    torch.manual_seed(seed)
    Tokenizer(small_tokenizer(**changes)).save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data") / "squares")


def small_tokenizer(**changes) -> TokenizerConfig:
    return TokenizerConfig(**{**dict(
        height=16, width=16, patch_size=4, dim=32, encoder_depth=4, decoder_depth=4, heads=2, mlp_dim=64,
        num_latents=4, latent_dim=8, num_registers=2, window=4), **changes})


def small_train(**changes) -> TrainConfig:
    """Float32, eager, a line of metrics every step."""
    return TrainConfig(**{**dict(
        steps=4, warmup_steps=2, precision="float32", compile="off", device="cpu", log_every=1, evaluate_every=2,
        evaluation_clips=4, save_every=2), **changes})


def small_run(**train) -> TokenizerRun:
    """Both optimizers."""
    return TokenizerRun(
        model=small_tokenizer(),
        objective=TokenizerObjectiveConfig(lpips_weight=0),
        loader=LoaderConfig(batch_size=4, length=6, workers=1, prefetch=2, cache_gib=0.1),
        optim=OptimConfig(),
        train=small_train(**train))


def small_dynamics(tokenizer: Path, source: str = "stored", **train) -> DynamicsRun:
    """Both optimizers, all kinds of rows; the third step is the first with bootstrap rows."""
    return DynamicsRun(
        model=DynamicsConfig(num_latents=4, latent_dim=8, dim=32, depth=4, heads=2, mlp_dim=64, num_registers=2,
                             window=6, finest_steps=8),
        objective=DynamicsObjectiveConfig(bootstrap_from=2),
        loader=LatentLoaderConfig(batch_size=8, length=8, short=4, source=source, workers=1),
        optim=OptimConfig(),
        train=small_train(**train),
        tokenizer=str(tokenizer))


@pytest.fixture(scope="session")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_played(tmp_path_factory.mktemp("played") / "squares")


@pytest.fixture(scope="session")
def eyes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer's weights; latents made of them are kept here for all tests."""
    return write_tokenizer(tmp_path_factory.mktemp("eyes") / "tokenizer")


@pytest.fixture(scope="session")
def small():
    return small_run
