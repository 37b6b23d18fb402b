"""Noise that is a pure function of a row's seed, the frame's number and what it is drawn for: a counter-based
generator.

    noise(seeds, frames, draw, (l, e))     float32 (b t l e), standard normal
    uniform(seeds, frames, draw, n)        float64 (b t n), in (0, 1)

Neither the row's place in a batch nor what was drawn before enters, so a row dreams the same in whatever company, and a
saved state goes on as it would have. Hashes are splitmix64's finaliser (Steele, Lea, Flood 2014), chained; numbers
become normal by Box and Muller's formula in float64 and are rounded once, so that devices agree. Waits for nothing.
"""

import functools
import importlib.util
import math
from typing import Final

import torch
from jaxtyping import Float, Int
from torch import Tensor

START, COMMIT, ACTION = range(3)  # what a draw is for: the sampler's noise, a finished frame's, a policy's choice
GOLDEN: Final = 0x9E3779B97F4A7C15 - 2**64
FIRST: Final = 0xBF58476D1CE4E5B9 - 2**64
SECOND: Final = 0x94D049BB133111EB - 2**64


def noise(seeds: Int[Tensor, " b"], frames: Int[Tensor, "b t"], draw: int,
          shape: tuple[int, int]) -> Float[Tensor, "b t l e"]:
    """One standard normal number for each of a frame's latents."""
    count = math.prod(shape)
    if seeds.is_cuda and _has_triton():
        from wakedream.dynamics.noise_kernel import normal  # needs Triton, which not every machine has

        return normal(seeds, frames, draw_key(draw), count).unflatten(-1, shape)
    drawn = uniform(seeds, frames, draw, 2 * count)
    radius, angle = (-2 * drawn[..., :count].log()).sqrt(), 2 * math.pi * drawn[..., count:]
    return (radius * angle.cos()).float().unflatten(-1, shape)


def uniform(seeds: Int[Tensor, " b"], frames: Int[Tensor, "b t"], draw: int, count: int) -> Float[Tensor, "b t n"]:
    """`count` numbers, each one of 2^52 evenly spaced ones, never 0 or 1."""
    key = _mix(_mix(_mix(seeds)[:, None] + frames) + draw_key(draw))
    numbers = torch.arange(1, count + 1, device=seeds.device)
    bits = _mix(key[..., None] + numbers * GOLDEN) >> 12 & (1 << 52) - 1
    return (bits.double() + 0.5) * 2.0**-52


def row_seeds(seed: int, rows: int, device: torch.device | str = "cpu") -> Int[Tensor, " b"]:
    """A seed of its own for each of so many rows, from one for them all."""
    return _mix(_mix(torch.full((rows,), wrapped(seed), device=device)) + torch.arange(rows, device=device))


def draw_key(draw: int) -> int:
    """What sets the draws of one frame apart."""
    return (2 * draw + 1) * GOLDEN % 2**63


@functools.cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


def wrapped(seed: int) -> int:
    """Any whole number as one of 64 bits with a sign."""
    return (seed + 2**63) % 2**64 - 2**63


def _mix(value: Tensor) -> Tensor:
    """splitmix64's finaliser on int64, whose products wrap around."""
    value = value + GOLDEN
    value = (value ^ _right(value, 30)) * FIRST
    value = (value ^ _right(value, 27)) * SECOND
    return value ^ _right(value, 31)


def _right(value: Tensor, bits: int) -> Tensor:
    """Shifted right, zeros in front."""
    return value >> bits & (1 << 64 - bits) - 1
