"""Data that is drawn, so that speed can be measured without any: clips on the device, scenes like a game's."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from wakedream.data.clip import Clip
from wakedream.data.trajectory import Trajectory
from wakedream.notation import Video

TILE, TILES = 8, 48  # pixels of a side, and how many textures


class Batches:
    """An endless iterator of the same few random clips, already on the device (training.state.Batches)."""

    def __init__(self, shape: tuple[int, ...], device: torch.device, distinct: int = 4):
        """shape: of a clip's video, (b, t, c, h, w)."""
        self.position = 0
        self.clips = [_clip(random_pixels(shape, device)) for _ in range(distinct)]

    def __iter__(self) -> "Batches":
        return self

    def __next__(self) -> Clip:
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


def _clip(video: Video) -> Clip:
    """With all that a data set without actions has."""
    return Clip(video, Trajectory.of_actions({}, torch.zeros(video.shape[:2], dtype=torch.bool, device=video.device)))
