"""What the dynamics model is fed: rows of frames as latents, with the actions that led into them."""

import dataclasses
from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from wakedream.notation import FrameIds, Latents


@dataclass
class LatentClip:
    """A batch of rows of t frames. `actions[:, t]` led into `latents[:, t]`.

    latents     float32 (b t l e) in [-1, 1], as the tokenizer makes them
    actions     by component name: categorical int64 (b t), binary / continuous float32 (b t k); {} if none
    has_action  bool (b t): False at an episode's first frame and wherever the action is unknown or withheld
    segments    int64 (b t): frames of one segment see each other; numbered from 0 in each row.
                Two clips of 3 frames side by side: 0 0 0 1 1 1; images: 0 1 2 3 4 5; one long clip: 0 0 0 0 0 0
    """

    latents: Latents
    actions: dict[str, Tensor]
    has_action: Bool[Tensor, "b t"]
    segments: FrameIds

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "LatentClip":
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "LatentClip":
        return self._map(lambda tensor: tensor.pin_memory())

    def _map(self, function) -> "LatentClip":
        def apply(value):
            if isinstance(value, dict):
                return {name: function(tensor) for name, tensor in value.items()}
            return function(value)

        return LatentClip(**{f.name: apply(getattr(self, f.name)) for f in dataclasses.fields(self)})
