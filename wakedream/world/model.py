"""Tokenizer and dynamics model as one: pictures and actions in, pictures out."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from wakedream.dynamics.dynamics import Dynamics
from wakedream.errors import CheckpointError, ConfigError
from wakedream.tokenizer.tokenizer import Tokenizer
from wakedream.tokenizer.weights import fingerprint

if TYPE_CHECKING:
    from wakedream.world.dream import WorldDream

TOKENIZER, DYNAMICS = "tokenizer", "dynamics"  # folders: beside a run's checkpoints, or in a world's own folder


class World:
    """A dynamics model and the tokenizer whose latents it was trained on.

        world = World.from_pretrained("runs/crafter-dynamics")
        dream = world.dream(frames, actions)            # goes on where the frames (b t c h w) end
        frame = dream.step({"action": torch.tensor([2])})    # (b c h w) in [0, 1]
    """

    def __init__(self, tokenizer: Tokenizer, dynamics: Dynamics):
        """CheckpointError when the dynamics model was trained on another tokenizer's latents."""
        if dynamics.tokenizer and dynamics.tokenizer != (own := fingerprint(tokenizer)):
            raise CheckpointError("the dynamics model was trained on latents of the tokenizer "
                                  f"{dynamics.tokenizer[:12]}, this one is {own[:12]}: give that one")
        shape = (tokenizer.config.num_latents, tokenizer.config.latent_dim)
        expected = (dynamics.config.num_latents, dynamics.config.latent_dim)
        if shape != expected:
            raise ConfigError(f"the tokenizer makes {shape[0]}x{shape[1]} latents a frame, the dynamics model takes "
                              f"{expected[0]}x{expected[1]}")
        self.tokenizer, self.dynamics = tokenizer, dynamics

    @classmethod
    def from_pretrained(cls, path: str | Path) -> "World":
        """Of a dynamics model's run folder (its best weights), or of what `save_pretrained` wrote."""
        path = Path(path)
        own = path / DYNAMICS
        dynamics = Dynamics.from_pretrained(own if own.exists() else path)
        if not (path / TOKENIZER).exists():
            raise CheckpointError(f"{path} has no folder '{TOKENIZER}': give the run folder of a dynamics model, which "
                                  "keeps the tokenizer that it was trained with")
        return cls(Tokenizer.from_pretrained(path / TOKENIZER), dynamics)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write folder/tokenizer and folder/dynamics, weights folders each."""
        self.tokenizer.save_pretrained(Path(folder) / TOKENIZER)
        self.dynamics.save_pretrained(Path(folder) / DYNAMICS)

    @property
    def device(self) -> torch.device:
        return self.dynamics.registers.device

    def to(self, device: torch.device | str) -> "World":
        self.tokenizer.to(device)
        self.dynamics.to(device)
        return self

    def dream(self, frames: Tensor | None = None, actions: dict[str, Tensor] | None = None,
              has_action: Tensor | None = None, **options: Any) -> "WorldDream":
        """A dream that goes on after `frames` (b t c h w), uint8 or float in [0, 1], or begins from nothing.

        actions[:, t] led into frames[:, t]; has_action: bool (b t), by default True if there are actions. options:
        batch_size (without frames), sampling_steps, seed, precision, graph, compile, as dynamics.Dream has them.
        """
        from wakedream.world.dream import WorldDream

        if frames is not None:
            if frames.ndim != 5:
                raise ValueError(f"expected frames (b, t, c, h, w), got {tuple(frames.shape)}")
            options["batch_size"] = frames.shape[0]
        dream = WorldDream(self, **options)
        if frames is not None:
            dream.observe(frames, actions, has_action)
        return dream
