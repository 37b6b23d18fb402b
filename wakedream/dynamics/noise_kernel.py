"""noise.py's numbers in one kernel: some sixty small operations of a dream's step become one launch. Needs Triton."""

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 256


@triton.jit
def _mix(value):
    """splitmix64's finaliser on uint64."""
    value = value + 0x9E3779B97F4A7C15
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB
    return value ^ (value >> 31)


@triton.jit
def _uniform(key, number):
    bits = _mix(key + number.to(tl.uint64) * 0x9E3779B97F4A7C15) >> 12
    return (bits.to(tl.int64).to(tl.float64) + 0.5) * 2.220446049250313e-16


@triton.jit
def normal_kernel(seeds, frames, out, per_row, count, DRAW_KEY: tl.constexpr, BLOCK: tl.constexpr):
    """A program for a block of the `count` numbers of one frame."""
    which = tl.program_id(0)
    number = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    seed = tl.load(seeds + which // per_row).to(tl.uint64, bitcast=True)
    frame = tl.load(frames + which).to(tl.uint64, bitcast=True)
    key = _mix(_mix(_mix(seed) + frame) + DRAW_KEY)
    radius = tl.sqrt(-2.0 * tl.log(_uniform(key, number + 1)))
    angle = 6.283185307179586 * _uniform(key, number + 1 + count)
    tl.store(out + which.to(tl.int64) * count + number, (radius * tl.cos(angle)).to(tl.float32), mask=number < count)


def normal(seeds: Tensor, frames: Tensor, draw_key: int, count: int) -> Tensor:
    """float32 (b t count) on the GPU; draw_key: noise.draw_key of the draw."""
    frames = frames.contiguous()
    out = torch.empty(*frames.shape, count, device=frames.device)
    grid = (frames.numel(), triton.cdiv(count, BLOCK))
    normal_kernel[grid](seeds.contiguous(), frames, out, frames.shape[1], count, DRAW_KEY=draw_key, BLOCK=BLOCK)
    return out
