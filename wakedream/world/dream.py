"""Dreams in pictures: the tokenizer's streams around dreamed latents."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from wakedream.dynamics.dream import Dream
from wakedream.dynamics.dynamics import Dynamics
from wakedream.dynamics.engine import EngineState
from wakedream.notation import Frame, Latent
from wakedream.tokenizer.stream import StreamState
from wakedream.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class WorldState:
    """Where a dream stands, in latents and in pictures."""

    dream: EngineState
    stream: StreamState


class WorldDream:
    """`batch_size` dreams side by side; see World.dream. `latent` holds the last frame's latents (b l e)."""

    latent: Latent

    def __init__(self, tokenizer: Tokenizer, dynamics: Dynamics, *, batch_size: int = 1, sampling_steps: int = 4,
                 seed: int | Tensor = 0, precision: str | None = None, graph: bool | None = None,
                 compile: bool = False):
        options: dict[str, Any] = {"precision": precision, "graph": graph, "compile": compile}
        self.dreamer = Dream(dynamics, batch_size, sampling_steps=sampling_steps, seed=seed, **options)
        self.stream = tokenizer.stream(batch_size, **options)

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

    def reset(self, rows: Tensor | None = None, seed: int | Tensor | None = None) -> None:
        """Forget everything, in all rows or those where bool (b) is True; with other noise if there is a seed."""
        self.dreamer.reset(rows, seed)
        self.stream.reset(rows)

    def state(self) -> WorldState:
        """Where all rows stand: `load` goes on there, exactly."""
        return WorldState(self.dreamer.state(), self.stream.state())

    def load(self, state: WorldState) -> None:
        """Go on as when the state was taken, from a dream of this world with as many rows."""
        self.dreamer.load(state.dream)
        self.stream.load(state.stream)
