"""Small data sets of moving squares, with actions or without, and small models that fit them."""

import numpy as np
import torch

from wakedream.data.actions import ActionComponent, ActionSpec
from wakedream.data.episode import Episode
from wakedream.data.store import Store, StoreWriter
from wakedream.dynamics.config import DynamicsConfig
from wakedream.dynamics.dynamics import Dynamics
from wakedream.tokenizer.config import TokenizerConfig
from wakedream.tokenizer.tokenizer import Tokenizer
from wakedream.world.model import World

SIZE = 32
SPEC = ActionSpec((ActionComponent("move", "categorical", 5), ActionComponent("push", "continuous", 2, (0, 0), (9, 9))))


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


def write_played(path, lengths, still=False, held_out=0.5, spec=SPEC, known=True, **info) -> Store:
    """With actions: moves count up within an episode, the second push is the episode's number."""
    with StoreWriter(path, spec, frame_shape=(SIZE, SIZE, 3), held_out=held_out, info=info) as writer:
        for seed, frames in enumerate(lengths):
            t, video = np.arange(frames), moving_square(frames, seed)
            video = np.repeat(video[:1], frames, axis=0) if still else video
            push = np.stack([t / 100, np.full(frames, seed)], axis=1).astype(np.float32)
            actions = {c.name: {"move": t % 5, "push": push}[c.name] for c in spec.components}
            writer.add(Episode(video, actions, (t > 0) & known, np.zeros(frames, np.float32), True, False,
                               info={"seed": 100 + seed}))
    return Store.open(path)


def small_tokenizer(size: int = SIZE) -> Tokenizer:
    torch.manual_seed(0)
    config = TokenizerConfig(size, size, 8, 32, 2, 2, 2, 64, num_latents=4, latent_dim=8, num_registers=1,
                             pattern=("space", "time"), window=4)  # fmt: skip
    return Tokenizer(config).eval()


def small_world(tokenizer: Tokenizer, spec: ActionSpec = SPEC) -> World:
    """It has learned nothing, but everything that it is given moves it."""
    torch.manual_seed(1)
    dynamics = Dynamics(DynamicsConfig(num_latents=4, latent_dim=8, dim=32, depth=2, heads=2, mlp_dim=48,
                                       num_registers=1, pattern=("space", "time"), window=6, finest_steps=8), spec)
    torch.nn.init.normal_(dynamics.to_latent.weight, std=0.2)
    dynamics.latent_scale.fill_(0.5)
    dynamics.shortcut.fill_(True)
    dynamics.tokenizer = tokenizer.fingerprint()
    return World(tokenizer, dynamics.eval())
