"""Dreams in pictures: the tokenizer's streams around dreamed latents."""

import copy
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from wakedream.dynamics.dream import Dream, about_dreams
from wakedream.dynamics.dynamics import Dynamics
from wakedream.dynamics.engine import EngineState
from wakedream.model.given import Given, GivenActions, check_frames, frames_of
from wakedream.model.stepwise import check_state
from wakedream.notation import Frame, Latent
from wakedream.tokenizer.stream import StreamState
from wakedream.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class WorldState:
    """Where a dream stands, in latents and in pictures."""

    dream: EngineState
    stream: StreamState


def of_pictures(precision: str | None) -> str | None:
    """Of the tokenizer beside a dream: its one pass of many would win little in fp8 and cost 2 dB."""
    return "bf16" if precision == "fp8" else precision


class WorldDream:
    """`batch_size` dreams side by side; see World.dream. `latent` holds the last frame's latents (b l e)."""

    latent: Latent

    def __init__(self, tokenizer: Tokenizer, dynamics: Dynamics, *, batch_size: int = 1, sampling_steps: int = 4,
                 seed: Given | None = None, precision: str | None = None, graph: bool | None = None,
                 compile: bool = False):
        options: dict[str, Any] = {"graph": graph, "compile": compile}
        self.dreamer = Dream(dynamics, batch_size, sampling_steps=sampling_steps, seed=seed, precision=precision,
                             **options)
        self.stream = tokenizer.stream(batch_size, precision=of_pictures(precision), **options)
        config = tokenizer.config
        self._frame = (config.channels, *config.frame_size)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({about_dreams(self.dreamer)})"

    @property
    def batch_size(self) -> int:
        return self.dreamer.batch_size

    @property
    def seeds(self) -> Tensor:
        """int64 (b): given as `seed`, another dream has the same noise."""
        return self.dreamer.seeds

    def observe(self, frames: Given, actions: GivenActions | None = None, has_action: Given | None = None) -> None:
        """More of what really happened: frames (b t c h w), the actions that led into each.

        All of it is looked at before anything is taken in."""
        frames = frames_of(frames)
        expected = ", ".join(map(str, self._frame))
        if frames.ndim != 5 or tuple(frames.shape[2:]) != self._frame or len(frames) != self.batch_size:
            raise ValueError(f"expected frames ({self.batch_size}, t, {expected}), got {tuple(frames.shape)}")
        if frames.shape[1] < 1:
            raise ValueError(f"no frames are given, {tuple(frames.shape)}: expected one or more, or leave them out")
        check_frames(frames)
        trajectory = self.dreamer.trajectory_of(tuple(frames.shape[:2]), actions, has_action)
        latents = [self.stream.encode(frame) for frame in frames.unbind(1)]
        self.dreamer.engine.observe(torch.stack(latents, dim=1), trajectory)
        for latent in latents:  # the decoder leans on frames before, too
            self.stream.picture(latent)
        self.latent = latents[-1]

    def step(self, actions: GivenActions | None = None, has_action: Given | None = None) -> Frame:
        """The next frame (b c h w) in [0, 1], after the action that leads into it: by component, tensors, arrays or
        lists with one for each dream, or a plain number for one dream."""
        self.latent = self.dreamer.step(actions, has_action)
        return self.stream.picture(self.latent)

    def reset(self, rows: Given | None = None, seed: Given | None = None) -> None:
        """Forget everything, in all rows or those where bool (b) is True; with other noise if there is a seed."""
        self.dreamer.reset(rows, seed)
        self.stream.reset(rows)

    def state(self) -> WorldState:
        """Where all rows stand: `load` goes on there, exactly."""
        return WorldState(self.dreamer.state(), self.stream.state())

    def load(self, state: Any) -> None:
        """Go on as when the state was taken, from a dream of this world with as many rows; or with one row, from which
        all rows then go on, with its seed. ValueError for anything else."""
        check_state(state, WorldState, self)
        self.dreamer.load(state.dream)
        self.stream.load(state.stream)

    def fork(self, rows: int | None = None) -> Self:
        """A dream of its own that goes on from where this one stands, with its noise: so what differs from now on
        comes of the actions alone. rows: so many from one dream (default: as many as there are)."""
        made = copy.copy(self)
        made.dreamer, made.stream = self.dreamer.fork(rows), self.stream.fork(rows)
        if hasattr(self, "latent"):
            made.latent = self.latent.expand(made.batch_size, *self.latent.shape[1:]).clone()
        return made
