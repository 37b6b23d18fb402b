"""A small data set and a small tokenizer that fits it."""

import numpy as np
import pytest
import torch

from wakedream.data.actions import ActionSpec
from wakedream.data.episode import Episode
from wakedream.data.store import Store, StoreWriter
from wakedream.tokenizer.config import TokenizerConfig
from wakedream.tokenizer.perceptual import LPIPS, TRUNKS
from wakedream.tokenizer.tokenizer import Tokenizer

SIZE = 32


def moving_square(frames: int, seed: int) -> np.ndarray:
    """uint8 (t h w 3): bright by day (first half), dark by night."""
    random = np.random.RandomState(seed)
    video = np.full((frames, SIZE, SIZE, 3), random.randint(60, 120), np.uint8)
    for t in range(frames):
        x = (2 * t + seed) % (SIZE - 8)
        video[t, 8:16, x : x + 8] = random.randint(150, 255, 3)
    video[frames // 2 :] //= 3
    return video


def write_store(path, lengths, with_daylight=True, held_out=0.5) -> Store:
    with StoreWriter(path, ActionSpec(), frame_shape=(SIZE, SIZE, 3), held_out=held_out) as writer:
        for seed, frames in enumerate(lengths):
            episode = Episode.of_video(moving_square(frames, seed))
            if with_daylight:
                episode.extras["daylight"] = (np.arange(frames) < frames // 2).astype(np.float32)
            writer.add(episode)
    return Store.open(path)


@pytest.fixture(scope="session")
def store(tmp_path_factory) -> Store:
    return write_store(tmp_path_factory.mktemp("data") / "squares", [24] * 6)


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    torch.manual_seed(0)
    config = TokenizerConfig(SIZE, SIZE, 8, 32, 2, 2, 2, 64, num_latents=4, latent_dim=8, num_registers=1,
                             pattern=("space", "time"), window=4)  # fmt: skip
    return Tokenizer(config).eval()


@pytest.fixture(scope="session")
def lpips() -> LPIPS:
    """With random weights: the numbers mean nothing, the path is the real one."""
    generator = torch.Generator().manual_seed(0)
    shapes = TRUNKS["alex"].shapes().items()
    return LPIPS("alex", {name: torch.rand(shape, generator=generator) * 0.02 for name, shape in shapes})
