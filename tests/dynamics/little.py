"""A small dynamics model that has been taken away from its start, and clips for it."""

import torch

from wakedream.data.actions import ActionComponent, ActionSpec
from wakedream.data.trajectory import Trajectory
from wakedream.dynamics.clip import LatentClip
from wakedream.dynamics.config import DynamicsConfig
from wakedream.dynamics.dynamics import Dynamics
from wakedream.dynamics.shortcut import Noised

SPEC = ActionSpec((ActionComponent("move", "categorical", 5),
                   ActionComponent("turn", "continuous", 2, (-1, -1), (1, 1))))
LATENTS, CHANNELS = 8, 6


def build(seed=0, **changes) -> Dynamics:
    """Output layer drawn: at the start it is zero, and nothing would depend on anything."""
    torch.manual_seed(seed)
    values = {"num_latents": LATENTS, "latent_dim": CHANNELS, "dim": 32, "depth": 4, "heads": 2, "mlp_dim": 48,
              "num_registers": 2, "pattern": ("space", "time"), "window": 4, "finest_steps": 8, "packing": 2}
    dynamics = Dynamics(DynamicsConfig(**values | changes), SPEC)
    torch.nn.init.normal_(dynamics.to_latent.weight, std=0.2)
    dynamics.latent_mean.normal_(std=0.1)
    dynamics.latent_scale.fill_(0.4)
    return dynamics


def clip(batch=4, frames=6, seed=1, **changes) -> LatentClip:
    draw = torch.Generator().manual_seed(seed)
    values = {
        "latents": torch.rand(batch, frames, LATENTS, CHANNELS, generator=draw) * 2 - 1,
        "actions": {"move": torch.randint(5, (batch, frames), generator=draw),
                    "turn": torch.rand(batch, frames, 2, generator=draw) * 2 - 1},
        "has_action": torch.ones(batch, frames, dtype=torch.bool),
        "segments": torch.zeros(batch, frames, dtype=torch.int64),
    }
    values |= changes
    trajectory = Trajectory.of_actions(values["actions"], values["has_action"])
    return LatentClip(values["latents"], trajectory, values["segments"])


def looked_at(dynamics, one: LatentClip, seed=2, **changes):
    """The clean latents that the model sees in a clip at drawn levels and steps."""
    draw = torch.Generator().manual_seed(seed)
    shape = one.has_action.shape
    finest = dynamics.config.finest_steps
    given = {
        "noisy": torch.randn(one.latents.shape, generator=draw),
        "levels": torch.randint(finest, shape, generator=draw),
        "step_indices": torch.randint(finest.bit_length(), shape, generator=draw),
        "actions": one.actions, "has_action": one.has_action, "segments": one.segments,
    } | changes
    noised = Noised(*(given.pop(name) for name in ("noisy", "levels", "step_indices")))
    trajectory = Trajectory.of_actions(given.pop("actions"), given.pop("has_action"))
    return dynamics(noised, trajectory, **given).latents
