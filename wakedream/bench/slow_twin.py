"""The next frame of a dream the plain way, to hold the engine beside: all frames in every pass, without a cache."""

import torch
from torch import Tensor

from wakedream.data.trajectory import Trajectory
from wakedream.dynamics.dynamics import Dynamics
from wakedream.dynamics.noise import COMMIT, START, noise
from wakedream.dynamics.sampler import sample
from wakedream.dynamics.shortcut import Noised, commit_level, finest_index, noised, sampling_passes, signal_of


def slow_frame(dynamics: Dynamics, past: Tensor, trajectory: Trajectory, seeds: Tensor, sampling_steps: int) -> Tensor:
    """The frame (b 1 l e) after `past` (b t l e), with the noise of these seeds: K looks at all t + 1 frames."""
    t, finest = past.shape[1], dynamics.config.finest_steps
    numbers = torch.arange(t + 1, device=past.device).expand(len(past), -1)
    shape = (past.shape[2], past.shape[3])
    level = torch.full((len(past), t), commit_level(finest), device=past.device)
    seen = noised(dynamics.standardise(past), noise(seeds, numbers[:, :t], COMMIT, shape), signal_of(level, finest))

    def predict(noisy: Noised) -> Tensor:
        whole = Noised(torch.cat([seen, noisy.latents], 1), torch.cat([level, noisy.levels], 1),
                       torch.cat([torch.full_like(level, finest_index(finest)), noisy.step_indices], 1))
        return dynamics(whole, trajectory.frames(slice(0, t + 1))).latents[:, -1:]

    passes = sampling_passes(sampling_steps, finest, bool(dynamics.shortcut))
    return dynamics.unstandardise(sample(predict, noise(seeds, numbers[:, t:], START, shape), passes, finest))
