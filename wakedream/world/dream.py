"""Dreams in pictures: the tokenizer's streams around dreamed latents."""

from typing import Any

import torch
from torch import Tensor

from wakedream.dynamics.dream import Dream
from wakedream.notation import Frame, Latent
from wakedream.world.model import World


class WorldDream:
    """`batch_size` dreams side by side; see World.dream. `latent` holds the last frame's latents (b l e)."""

    latent: Latent

    def __init__(self, world: World, *, batch_size: int = 1, sampling_steps: int = 4, seed: int = 0,
                 precision: str | None = None, graph: bool | None = None, compile: bool = False):
        options: dict[str, Any] = {"precision": precision, "graph": graph, "compile": compile}
        self.dreamer = Dream(world.dynamics, batch_size, sampling_steps=sampling_steps, seed=seed, **options)
        self.stream = world.tokenizer.stream(batch_size, **options)

    def observe(self, frames: Tensor, actions: dict[str, Tensor] | None = None,
                has_action: Tensor | None = None) -> None:
        """More of what really happened: frames (b t c h w), the actions that led into each."""
        latents = [self.stream.encode(frame) for frame in frames.unbind(1)]
        self.dreamer.observe(torch.stack(latents, dim=1), actions, has_action)
        for latent in latents:  # the decoder leans on frames before, too
            self.stream.decode(latent)
        self.latent = latents[-1]

    def step(self, actions: dict[str, Tensor] | None = None, has_action: Tensor | None = None) -> Frame:
        """The next frame (b c h w) in [0, 1], after the action that leads into it."""
        self.latent = self.dreamer.step(actions, has_action)
        return self.stream.decode(self.latent)

    def reset(self, rows: Tensor | None = None) -> None:
        """Forget everything, in all rows or those where bool (b) is True."""
        self.dreamer.reset(rows)
        self.stream.reset(rows)
