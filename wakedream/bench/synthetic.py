"""Data that is drawn, so that speed can be measured without any: clips on the device, scenes like a game's."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wakedream.agent.batches import Contexts, uniform_part
from wakedream.agent.config import AgentLoaderConfig
from wakedream.data.actions import ActionComponent, ActionSpec
from wakedream.data.clip import Clip
from wakedream.data.trajectory import Actions, Trajectory, joined
from wakedream.dynamics.clip import LatentClip
from wakedream.dynamics.config import DynamicsConfig, LatentLoaderConfig
from wakedream.dynamics.noise import row_seeds
from wakedream.dynamics.rows import row_segments

GAMEPAD = ActionSpec((ActionComponent("action", "categorical", 17),))  # as Crafter has it
TILE, TILES = 8, 48  # pixels of a side, and how many textures


class Batches:
    """An endless iterator of the same few clips, already on the device (training.state.Batches)."""

    def __init__(self, clips: Sequence[Any]):
        self.position, self.clips = 0, clips

    def __iter__(self) -> "Batches":
        return self

    def __next__(self) -> Any:
        self.position += 1
        return self.clips[self.position % len(self.clips)]

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.position = int(state["position"])


def random_pixels(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """uint8."""
    return torch.randint(0, 256, shape, dtype=torch.uint8, device=device)


def scene(frames: int, height: int, width: int, seed: int) -> np.ndarray:
    """uint8 (t h w 3): a map of textured tiles that scrolls, and things that flicker and move over it.

    Like a game in what matters to a codec: few colours, repeated textures, small changes between frames.
    """
    rng = np.random.default_rng(seed)
    tiles = rng.integers(0, 256, (TILES, 1, 1, 3)) + rng.integers(-24, 25, (TILES, TILE, TILE, 3))
    rows, columns = height // TILE + 9, width // TILE + 9
    world = tiles.clip(0, 255).astype(np.uint8)[rng.integers(0, TILES, (rows, columns))]
    world = world.swapaxes(1, 2).reshape(rows * TILE, columns * TILE, 3)
    room = np.array([world.shape[0] - height, world.shape[1] - width])
    camera = rng.uniform(0, room, (1, 2)) + rng.uniform(-1.5, 1.5, 2) * np.arange(frames)[:, None]
    camera = np.abs((camera + room) % (2 * room) - room).astype(int)  # back and forth over the map
    things = rng.integers(0, 256, (frames, 4, TILE, TILE, 3), np.uint8)
    places = rng.uniform(0, 1, (4, 1, 2)) + rng.uniform(-0.02, 0.02, (4, 1, 2)) * np.arange(frames)[None, :, None]
    places = (places % 1 * [height - TILE, width - TILE]).astype(int)
    video = np.empty((frames, height, width, 3), np.uint8)
    for t, (top, left) in enumerate(camera):
        video[t] = world[top:top + height, left:left + width]
        for thing, (y, x) in zip(things[t], places[:, t], strict=True):
            video[t, y:y + TILE, x:x + TILE] = thing
    return video


def random_clip(shape: tuple[int, ...], device: torch.device) -> Clip:
    """Of this shape of the video, (b, t, c, h, w), with all that a data set without actions has."""
    video = random_pixels(shape, device)
    return Clip(video, Trajectory.of_actions({}, torch.zeros(shape[:2], dtype=torch.bool, device=device)))


def random_latents(model: DynamicsConfig, loader: LatentLoaderConfig, device: torch.device) -> LatentClip:
    """A batch as training has it: rows of images, into which no action leads, packed short clips and long clips."""
    shape = loader.batch_size, loader.length
    has_action = torch.ones(shape, dtype=torch.bool)
    has_action[:loader.images] = False
    trajectory = Trajectory.of_actions(random_action(shape), has_action)
    latents = torch.rand(*shape, model.num_latents, model.latent_dim) * 2 - 1
    return LatentClip(latents, trajectory, row_segments(loader)).to(device)


def random_played(model: DynamicsConfig, loader: AgentLoaderConfig, device: torch.device) -> LatentClip:
    """A batch as cloning has it: uniform rows, then relevant ones, each of one episode; with rewards."""
    uniform = random_latents(model, uniform_part(loader), torch.device("cpu"))
    relevant = random_contexts(model, loader.num_relevant, loader.length, torch.device("cpu")).clip
    clip = joined([uniform, relevant])
    known = clip.trajectory.has_action
    trajectory = replace(clip.trajectory, rewards=torch.rand(known.shape) * known, has_reward=known)
    return replace(clip, trajectory=trajectory).to(device)


def random_contexts(model: DynamicsConfig, rows: int, length: int, device: torch.device) -> Contexts:
    """For imagination, each of one episode."""
    trajectory = Trajectory.of_actions(random_action((rows, length)), torch.ones(rows, length, dtype=torch.bool))
    latents = torch.rand(rows, length, model.num_latents, model.latent_dim) * 2 - 1
    clip = LatentClip(latents, trajectory, torch.zeros(rows, length, dtype=torch.int64))
    return Contexts(clip, row_seeds(0, rows)[:, None]).to(device)


def random_action(shape: tuple[int, ...]) -> Actions:
    """Of a game's pad, on the CPU."""
    return {"action": torch.randint(GAMEPAD.components[0].size, shape)}
