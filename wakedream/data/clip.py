"""What the model is fed: a batch of windows cut from episodes."""

import dataclasses
from dataclasses import dataclass, field

import torch
from torch import Tensor

from wakedream.notation import Video


@dataclass
class Clip:
    """A batch of windows. `actions[:, t]` led into `video[:, t]`; rewards[:, t] arrived with it.

    video       uint8 (b t c h w), 0..255
    actions     by component name: categorical int64 (b t), binary / continuous float32 (b t k); {} if none
    has_action  bool (b t): False at an episode's first frame and wherever the action is unknown
    rewards     float32 (b t)
    terminated  bool (b t): the episode truly ended at this frame (never a time limit)
    extras      per-frame extras by name, float32 (b t), for example Crafter's daylight
    """

    video: Video
    actions: dict[str, Tensor] = field(default_factory=dict)
    has_action: Tensor | None = None
    rewards: Tensor | None = None
    terminated: Tensor | None = None
    extras: dict[str, Tensor] = field(default_factory=dict)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Clip":
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "Clip":
        return self._map(lambda tensor: tensor.pin_memory())

    def _map(self, function) -> "Clip":
        def apply(value):
            if isinstance(value, dict):
                return {name: function(tensor) for name, tensor in value.items()}
            return None if value is None else function(value)

        return Clip(**{f.name: apply(getattr(self, f.name)) for f in dataclasses.fields(self)})
