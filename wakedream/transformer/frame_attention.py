"""Attention inside frames of some hundred tokens as one Triton kernel, QK-norm included; for inference.

As `short_attention` over space it reads the product of the qkv projection where it lies, and what a query sees is one
range of keys; but there are more keys than one tile holds, so a program takes some queries of one head and walks over
the keys that they see. There is no backward pass: training takes PyTorch's fused kernels, group by group.

The plain twin is `attend`; tests/transformer/test_short_attention.py.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from wakedream.transformer.kernels import _finish, _keys, _logits, _more, _norm_weight, _queries
from wakedream.transformer.short_attention import EPS, mixed_like

QUERIES, KEYS = 64, 64  # rows of a tile; one frame of 262 tokens takes an H100 11 us, with 32 queries 15
WARPS, STAGES = 4, 2


@torch.library.custom_op("wakedream::frame_attention", mutates_args=())
def frame_attention(qkv: Tensor, query_weight: Tensor, key_weight: Tensor, starts: Tensor, ends: Tensor, heads: int,
                    kv_heads: int, unit: Tensor | None = None) -> Tensor:
    """softmax(q k' / sqrt(e)) v inside each frame, (b t s (h e)).

    qkv                        (b t s c), c = (heads + 2 kv_heads) e: the queries, keys and values of every token
    query_weight, key_weight   (e): QK-norm's weights
    starts, ends               int32 (s): each token attends to tokens [start, end), of which there is one at least
    unit                       float32 (): that of the `Fp8Product` which takes what comes out; it is then e4m3, over it
    """
    b, t, s, c = qkv.shape
    head_dim = c // (heads + 2 * kv_heads)
    assert starts.shape == ends.shape == (s,) and starts.dtype == ends.dtype == torch.int32, (starts, qkv.shape)
    out = mixed_like(qkv, heads, kv_heads, unit)
    frame_attention_forward[(b * t * heads * triton.cdiv(s, QUERIES),)](
        qkv.contiguous(), out, query_weight, key_weight, starts, ends, unit, 1 / math.sqrt(head_dim), TOKENS=s,
        H=heads, G=kv_heads, E=head_dim, HALF=head_dim // 2, NORM_EPS=EPS, ROWS=QUERIES, BLOCK=KEYS, num_warps=WARPS,
        num_stages=STAGES)
    return out


@frame_attention.register_fake
def _(qkv, query_weight, key_weight, starts, ends, heads, kv_heads, unit=None):
    return mixed_like(qkv, heads, kv_heads, unit)


@triton.jit
def frame_attention_forward(qkv, out, query_weight, key_weight, starts, ends, unit, scale, TOKENS: tl.constexpr,
                            H: tl.constexpr, G: tl.constexpr, E: tl.constexpr, HALF: tl.constexpr,
                            NORM_EPS: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """One program for ROWS queries of each head of each frame: the heads that share keys are neighbours."""
    tiles: tl.constexpr = (TOKENS + ROWS - 1) // ROWS
    program = tl.program_id(0)
    head, tile, frame = program % H, program // H % tiles, (program // (H * tiles)).to(tl.int64)
    group = head // (H // G)
    qkv += frame * (TOKENS * (H + 2 * G) * E)
    out += frame * (TOKENS * H * E)
    half, whole = tl.arange(0, HALF), tl.arange(0, E)
    dtype: tl.constexpr = qkv.dtype.element_ty

    rows = tile * ROWS + tl.arange(0, ROWS)
    real = rows < TOKENS
    start = tl.load(starts + rows, mask=real, other=TOKENS)
    end = tl.load(ends + rows, mask=real, other=0)
    weight_1, weight_2 = _norm_weight(query_weight, HALF)
    at = qkv + rows[:, None] * ((H + 2 * G) * E) + head * E + half[None, :]
    query_1, query_2, unit_1, unit_2, rstd = _queries(at, real[:, None], weight_1, weight_2, qkv, qkv, rows, real,
                                                      dtype, E, HALF, False, NORM_EPS)

    highest, total = tl.full((ROWS,), -1e30, dtype=tl.float32), tl.zeros((ROWS,), dtype=tl.float32)
    mixed = tl.zeros((ROWS, E), dtype=tl.float32)
    last = tl.max(end, 0)
    for first in range(tl.min(start, 0), last, BLOCK):
        token = first + tl.arange(0, BLOCK)
        key_1, key_2, value = _keys(qkv, token, token, token < last, key_weight, qkv, qkv, group, H, G, E, HALF, False,
                                    NORM_EPS)
        seen = (token[None, :] >= start[:, None]) & (token[None, :] < end[:, None])
        weights, shrunk, highest, total = _more(_logits(query_1, query_2, key_1, key_2, seen, scale), highest, total)
        mixed = mixed * shrunk[:, None] + tl.dot(weights.to(dtype), value)
    _finish(out + rows[:, None] * (H * E) + head * E + whole[None, :], mixed, total, unit, real[:, None])
