"""Shortcut forcing in pure functions, for objective and sampler alike (paper section 3.2; Frans et al. 2024).

A frame's latents are noised to a signal level tau in [0, 1], 0 noise and 1 data, and the network is told tau and the
step size d that it is to take. Both are on a grid: with K_max = `finest` steps, tau = level / K_max for level
0 .. K_max - 1, and d = 1 / 2^index for step index 0 .. log2 K_max. The smallest step, d_min = 1 / K_max, learns from
data (flow matching), larger ones from two steps of half the size (bootstrap).

    K_max = 8      step index    0      1      2        3
                   d             1     1/2    1/4      1/8 = d_min
                   levels        0     0 4    0 2 4 6  0 1 2 3 4 5 6 7

Levels and step indices are int64 (b t): every frame has its own.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from wakedream.notation import Latents, Levels

Signal = Float[Tensor, "b t"]
CONTEXT_SIGNAL = 0.9  # of what a dream looks back on: the paper's tau_ctx = 0.1, read as 0.1 of noise


class Noised(NamedTuple):
    """Latents on their way from noise to data. Of no frame more than the network is told, but for the targets.

    latents        float32 (b t l e), standardised: (1 - tau) noise + tau clean
    levels         int64 (b t): tau on the grid
    step_indices   int64 (b t): the step that the network is to take
    """

    latents: Latents
    levels: Levels
    step_indices: Levels


def finest_index(finest: int) -> int:
    """The index of the step 1 / finest."""
    return finest.bit_length() - 1


def commit_level(finest: int) -> int:
    """The level at which finished frames become context, with the smallest step: a row that training has drawn."""
    return min(round(CONTEXT_SIGNAL * finest), finest - 1)


def noised(clean: Latents, noise: Latents, signal: Signal) -> Latents:
    """(1 - tau) noise + tau clean."""
    signal = _beside(signal, clean)
    return (1 - signal) * noise + signal * clean


def velocity(prediction: Latents, noisy: Latents, signal: Signal) -> Latents:
    """The direction in which `noisy` moves if `prediction` is clean: (x - z) / (1 - tau)."""
    return (prediction - noisy) / (1 - _beside(signal, noisy))


def advance(prediction: Latents, noisy: Latents, signal: Signal, step: Signal) -> Latents:
    """One step: z + d (x - z) / (1 - tau)."""
    return noisy + _beside(step, noisy) * velocity(prediction, noisy, signal)


def bootstrap_target(first: Latents, second: Latents, noisy: Latents, halfway: Latents, signal: Signal,
                     step: Signal) -> Latents:
    """The clean latents to which one step of size d must point, so that it lands where two halves of it do.

    z + (1 - tau) (b1 + b2) / 2, with b1 = velocity(first, noisy, tau) and b2 = velocity(second, halfway, tau + d/2):
    the paper's loss in velocities (eq. 7) multiplied out.
    """
    both = velocity(first, noisy, signal) + velocity(second, halfway, signal + step / 2)
    return noisy + (1 - _beside(signal, noisy)) * both / 2


def ramp(signal: Signal) -> Signal:
    """Weight of a frame's loss, 0.9 tau + 0.1 (paper eq. 8): where there is little signal there is little to learn."""
    return 0.9 * signal + 0.1


def draw_flow(batch: int, num_frames: int, finest: int, device: torch.device) -> tuple[Levels, Levels]:
    """Levels and step indices of frames that learn from data: the smallest step, any level."""
    levels = torch.randint(finest, (batch, num_frames), device=device)
    return levels, torch.full_like(levels, finest_index(finest))


def draw_bootstrap(batch: int, num_frames: int, finest: int, device: torch.device,
                   starts: Bool[Tensor, "b t"] | None = None) -> tuple[Levels, Levels]:
    """Levels and step indices of bootstrap rows: half of the frames take larger steps, each as often as the others,
    from a level on its grid. The other half are at the smallest step, which is what sampling finds around a frame.

    starts: frames that nothing stands before. They all take larger steps: dreams from nothing begin there, and they
    are few.
    """
    levels, indices = draw_flow(batch, num_frames, finest, device)
    larger = torch.rand(levels.shape, device=device) < 0.5
    if starts is not None:
        larger = larger | starts
    coarse = torch.randint(finest_index(finest), levels.shape, device=device)
    grid = torch.bitwise_left_shift(torch.ones_like(coarse), coarse)  # steps of that size: 2^index
    on_grid = (torch.rand(levels.shape, device=device) * grid).long() * (finest // grid)
    return torch.where(larger, on_grid, levels), torch.where(larger, coarse, indices)


def signal_of(levels: Levels, finest: int) -> Signal:
    """tau, float32 (b t)."""
    return levels.float() / finest


def step_of(indices: Levels) -> Signal:
    """d, float32 (b t)."""
    return torch.exp2(-indices.float())


def sampling_passes(steps: int, finest: int, shortcut: bool = True) -> list[tuple[int, int]]:
    """(level, step index) of each of `steps` passes; a model that knows flow alone is asked in its smallest step."""
    assert 1 <= steps <= finest and finest % steps == 0, (steps, finest)
    step_index = steps.bit_length() - 1 if shortcut else finest_index(finest)
    return [(number * finest // steps, step_index) for number in range(steps)]


def _beside(numbers: Tensor, latents: Tensor) -> Tensor:
    """(b t) to (b t 1 1)"""
    return numbers.reshape(*numbers.shape, *[1] * (latents.ndim - numbers.ndim))
