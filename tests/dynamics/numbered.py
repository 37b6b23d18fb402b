"""Data sets and latents in which every frame says which it is, so that whatever is out of step is seen."""

from pathlib import Path

import numpy as np
import torch

from wakedream.data.actions import ActionComponent, ActionSpec
from wakedream.data.episode import Episode
from wakedream.data.manifest import shard_path
from wakedream.data.store import Store, StoreWriter
from wakedream.dynamics.harvest import sources, spans
from wakedream.dynamics.latents import About, LatentStore, write_about, write_latents
from wakedream.tokenizer.config import TokenizerConfig

SPEC = ActionSpec((ActionComponent("frame", "categorical", 256), ActionComponent("place", "continuous", 2)))
TINY = TokenizerConfig(height=16, width=16, patch_size=8, dim=32, encoder_depth=4, decoder_depth=2, heads=2, mlp_dim=64,
                       num_latents=2, latent_dim=4, num_registers=1, pattern=("space", "time"), window=3)
NAME = "f" * 64  # of a tokenizer that nobody has


def make_numbered(path: Path, lengths: list[int], shard_frames: int = 100, held_out: float = 0.1) -> Store:
    """Pixels [0, 0] and [0, 1] are episode and frame, the rest noise; the action into a frame is its number."""
    with StoreWriter(path, SPEC, frame_shape=(16, 16, 3), shard_frames=shard_frames, held_out=held_out) as writer:
        for number, frames in enumerate(lengths):
            writer.add(_episode(number, frames))
    return Store.open(path)


def _episode(number: int, frames: int) -> Episode:
    rng, t = np.random.default_rng(number), np.arange(frames)
    video = rng.integers(0, 256, (frames, 16, 16, 3), np.uint8)
    video[:, 0, 0], video[:, 0, 1] = number, t[:, None]
    place = np.stack([np.full(frames, number), t], axis=1).astype(np.float32)
    return Episode(video, {"frame": t, "place": place}, t > 0, np.zeros(frames, np.float32), True, False)


def make_latents(store: Store, folder: Path) -> LatentStore:
    """Latents (1 2): episode / 64 and frame / 256, exact in float16; those alone have the opposite sign."""
    found = spans(store)
    for number, source in sources(store, NAME).items():
        rows = [(span.id / 64, frame / 256) for span in found if span.shard == number
                for frame in range(span.frames)]
        latents = torch.tensor(rows).half().unsqueeze(1)
        write_latents(shard_path(folder, number), latents, -latents, source)
    about = About(NAME, store.fingerprint, 1.0, ((0.0, 0.0),), tuple(found))
    write_about(folder, about)
    return LatentStore.open(folder)
