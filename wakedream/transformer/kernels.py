"""Attention over short sequences as one Triton kernel each way: QK-norm, rotary embedding, softmax, no transposes.

Space attention has some hundred keys and time attention a few dozen: a whole sequence fits into one tile. So the
kernel reads the product of the qkv projection where it lies, (b t s c) with c = (heads + 2 kv_heads) * head_dim, along
either axis, and nothing but its output goes back to memory. The backward pass recomputes the softmax from the same
input: no statistics are stored. What a query sees is one range of keys, [starts, ends), so there is no mask either.

Several short sequences share a tile (`pack`). The plain twin is `attend`; tests/transformer/test_kernels.py.
"""

import math
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

EPS = 1e-6
ROWS = 16  # short sequences fill a tile up to so many rows (16 beat 32 and 64 on an H100)
FORWARD = {16: (16, 1), 32: (32, 2), 64: (64, 4), 128: (32, 4)}  # keys of a tile: (queries at a time, warps)
BACKWARD = {16: (16, 1), 32: (32, 4), 64: (64, 4), 128: (128, 8)}  # fewer queries at a time save no registers


@dataclass(frozen=True)
class Walk:
    """How rows of a tile lie in a (b t s c) tensor: outer x packs of sequences x positions."""

    outer: int
    sequences: int
    length: int
    pack: int
    strides: tuple[int, int, int]  # outer, sequence, position, in units of c

    @classmethod
    def along(cls, axis: str, shape: torch.Size) -> "Walk":
        b, t, s, _ = shape
        if axis == "space":
            return cls(1, b * t, s, max(1, ROWS // s), (0, s, 1))
        return cls(b, s, t, max(1, ROWS // t), (t * s, 1, s))

    @property
    def packs(self) -> int:
        return -(-self.sequences // self.pack)

    @property
    def block(self) -> int:
        return max(16, triton.next_power_of_2(self.length * self.pack))

    def arguments(self) -> dict[str, int]:
        outer, sequence, position = self.strides
        return {"packs": self.packs, "sequences": self.sequences, "stride_outer": outer, "stride_sequence": sequence,
                "stride_position": position, "LENGTH": self.length, "PACK": self.pack, "BLOCK": self.block}


@torch.library.custom_op("wakedream::short_attention", mutates_args=())
def short_attention(qkv: Tensor, query_weight: Tensor, key_weight: Tensor, cos: Tensor | None, sin: Tensor | None,
                    starts: Tensor, ends: Tensor, heads: int, kv_heads: int, axis: str) -> Tensor:
    """softmax(q k' / sqrt(e)) v along `axis`, "space" (s) or "time" (t); (b t s (h e)).

    qkv                   (b t s c), c = (heads + 2 kv_heads) e: the queries, keys and values of every token
    query_weight, key_weight   (e): QK-norm's weights
    cos, sin              float32 (length e/2): rotary angles by position, or None
    starts, ends          int32 (length): each position attends to positions [start, end)
    """
    qkv = qkv.contiguous()
    walk, head_dim = Walk.along(axis, qkv.shape), qkv.shape[-1] // (heads + 2 * kv_heads)
    out = qkv.new_empty(*qkv.shape[:3], heads * head_dim)
    angle = query_weight if cos is None else cos  # any pointer will do where none is read
    _attention_forward[(walk.outer * walk.packs, kv_heads)](
        qkv, out, query_weight, key_weight, angle, angle if sin is None else sin, starts, ends,
        1 / math.sqrt(head_dim), **walk.arguments(), H=heads, G=kv_heads, E=head_dim, HALF=head_dim // 2,
        ROTATE=cos is not None, NORM_EPS=EPS, EXACT=qkv.dtype == torch.float32, num_stages=1,
        **dict(zip(("TILE", "num_warps"), FORWARD[walk.block], strict=True)))
    return out


@torch.library.custom_op("wakedream::short_attention_backward", mutates_args=())
def _backward_op(grad: Tensor, qkv: Tensor, query_weight: Tensor, key_weight: Tensor, cos: Tensor | None,
                 sin: Tensor | None, starts: Tensor, ends: Tensor, heads: int, kv_heads: int,
                 axis: str) -> tuple[Tensor, Tensor]:
    """Gradients of qkv, and float32 (2 e) of both norm weights."""
    qkv, grad = qkv.contiguous(), grad.contiguous()
    walk, head_dim = Walk.along(axis, qkv.shape), qkv.shape[-1] // (heads + 2 * kv_heads)
    grad_qkv = torch.empty_like(qkv)
    programs = walk.outer * walk.packs
    parts = torch.empty(programs * kv_heads, 2 * head_dim, device=qkv.device, dtype=torch.float32)
    angle = query_weight if cos is None else cos
    _attention_backward[(programs, kv_heads)](
        qkv, grad, grad_qkv, parts, query_weight, key_weight, angle, angle if sin is None else sin, starts, ends,
        1 / math.sqrt(head_dim), **walk.arguments(), H=heads, G=kv_heads, E=head_dim, HALF=head_dim // 2,
        ROTATE=cos is not None, NORM_EPS=EPS, EXACT=qkv.dtype == torch.float32, num_stages=1,
        **dict(zip(("TILE", "num_warps"), BACKWARD[walk.block], strict=True)))
    return grad_qkv, parts.sum(0)


@short_attention.register_fake
def _(qkv, query_weight, key_weight, cos, sin, starts, ends, heads, kv_heads, axis):
    return qkv.new_empty(*qkv.shape[:3], qkv.shape[-1] // (heads + 2 * kv_heads) * heads)


@_backward_op.register_fake
def _(grad, qkv, query_weight, key_weight, cos, sin, starts, ends, heads, kv_heads, axis):
    head_dim = qkv.shape[-1] // (heads + 2 * kv_heads)
    return qkv.new_empty(qkv.shape), qkv.new_empty(2 * head_dim, dtype=torch.float32)


def _keep(ctx, inputs, output) -> None:
    *tensors, ctx.heads, ctx.kv_heads, ctx.axis = inputs
    ctx.save_for_backward(*tensors)


def _differentiate(ctx, grad: Tensor):
    qkv, query_weight, key_weight, *rest = ctx.saved_tensors
    grad_qkv, weights = _backward_op(grad, qkv, query_weight, key_weight, *rest, ctx.heads, ctx.kv_heads, ctx.axis)
    query, key = weights.chunk(2)
    return grad_qkv, query.to(query_weight.dtype), key.to(key_weight.dtype), *(None,) * 7


short_attention.register_autograd(_differentiate, setup_context=_keep)


@triton.jit
def _base(packs, stride_outer, stride_sequence, PACK: tl.constexpr):
    """The program's first token; all others are near enough for 32 bits."""
    program = tl.program_id(0).to(tl.int64)
    return (program // packs) * stride_outer + (program % packs) * (PACK * stride_sequence)


@triton.jit
def _rows(first, packs, sequences, stride_sequence, stride_position,
          LENGTH: tl.constexpr, PACK: tl.constexpr, COUNT: tl.constexpr):
    """Of COUNT rows of the tile: the token, counted from the base, sequence, position, and whether it is real."""
    pack = tl.program_id(0) % packs
    rows = first + tl.arange(0, COUNT)
    sequence, position = rows // LENGTH, rows % LENGTH
    real = (sequence < PACK) & (pack * PACK + sequence < sequences)
    return sequence * stride_sequence + position * stride_position, sequence, position, real


@triton.jit
def _visible(sequence, position, real, key_sequence, key_position, key_real, starts, ends, BLOCK: tl.constexpr):
    """bool (query key); rows that are not real see the first key, so that no softmax is empty."""
    start = tl.load(starts + position, mask=real, other=0)
    end = tl.load(ends + position, mask=real, other=0)
    inside = (key_position[None, :] >= start[:, None]) & (key_position[None, :] < end[:, None])
    seen = inside & (sequence[:, None] == key_sequence[None, :]) & key_real[None, :]
    return tl.where(real[:, None], seen, tl.arange(0, BLOCK)[None, :] == 0)


@triton.jit
def _normalised(at, kept, NORM_EPS: tl.constexpr, E: tl.constexpr, HALF: tl.constexpr):
    """Both halves of the rows at `at` over their common root mean square, and 1 / rms."""
    first = tl.load(at, mask=kept, other=0.0).to(tl.float32)
    second = tl.load(at + HALF, mask=kept, other=0.0).to(tl.float32)
    rstd = tl.rsqrt((tl.sum(first * first, 1) + tl.sum(second * second, 1)) / E + NORM_EPS)
    return first * rstd[:, None], second * rstd[:, None], rstd


@triton.jit
def _turned(first, second, cos, sin, position, real, HALF: tl.constexpr, ROTATE: tl.constexpr, BACK: tl.constexpr):
    """Rotated by the positions' angles, or back."""
    if ROTATE:
        at, kept = position[:, None] * HALF + tl.arange(0, HALF)[None, :], real[:, None]
        c, s = tl.load(cos + at, mask=kept, other=0.0), tl.load(sin + at, mask=kept, other=0.0)
        if BACK:
            s = -s
        turned_1, turned_2 = first * c - second * s, first * s + second * c
    else:
        turned_1, turned_2 = first, second
    return turned_1, turned_2


@triton.jit
def _product(a, b, EXACT: tl.constexpr):
    return tl.dot(a, b, input_precision="ieee" if EXACT else "tf32")


@triton.jit
def _softmax(query_1, query_2, key_1, key_2, visible, scale, EXACT: tl.constexpr):
    logits = _product(query_1, tl.trans(key_1), EXACT) + _product(query_2, tl.trans(key_2), EXACT)
    logits = tl.where(visible, logits * (scale * 1.4426950408889634), float("-inf"))
    weights = tl.exp2(logits - tl.max(logits, 1)[:, None])
    return weights / tl.sum(weights, 1)[:, None]


@triton.jit
def _attention_forward(qkv, out, query_weight, key_weight, cos, sin, starts, ends, scale, packs, sequences,
             stride_outer, stride_sequence, stride_position, LENGTH: tl.constexpr, PACK: tl.constexpr,
             BLOCK: tl.constexpr, TILE: tl.constexpr, H: tl.constexpr, G: tl.constexpr, E: tl.constexpr,
             HALF: tl.constexpr, ROTATE: tl.constexpr, NORM_EPS: tl.constexpr, EXACT: tl.constexpr):
    group, half, whole = tl.program_id(1), tl.arange(0, HALF), tl.arange(0, E)
    dtype = qkv.dtype.element_ty
    base = _base(packs, stride_outer, stride_sequence, PACK)
    token, sequence, position, real = _rows(0, packs, sequences, stride_sequence, stride_position, LENGTH, PACK, BLOCK)
    qkv += base * ((H + 2 * G) * E)
    out += base * (H * E)
    row = qkv + token[:, None] * ((H + 2 * G) * E)
    one, two, key_rstd = _normalised(row + (H + group) * E + half[None, :], real[:, None], NORM_EPS, E, HALF)
    one, two = one * tl.load(key_weight + half)[None, :], two * tl.load(key_weight + HALF + half)[None, :]
    one, two = _turned(one, two, cos, sin, position, real, HALF, ROTATE, False)
    key_1, key_2 = one.to(dtype), two.to(dtype)
    value = tl.load(row + (H + G + group) * E + whole[None, :], mask=real[:, None], other=0.0)
    weight_1, weight_2 = tl.load(query_weight + half)[None, :], tl.load(query_weight + HALF + half)[None, :]
    for tile in range((LENGTH * PACK + TILE - 1) // TILE):
        q_token, q_sequence, q_position, q_real = _rows(tile * TILE, packs, sequences, stride_sequence,
                                                        stride_position, LENGTH, PACK, TILE)
        kept = q_real[:, None]
        visible = _visible(q_sequence, q_position, q_real, sequence, position, real, starts, ends, BLOCK)
        for member in range(H // G):
            head = group * (H // G) + member
            unit_1, unit_2, rstd = _normalised(qkv + q_token[:, None] * ((H + 2 * G) * E) + head * E + half[None, :],
                                               kept, NORM_EPS, E, HALF)
            query_1, query_2 = _turned(unit_1 * weight_1, unit_2 * weight_2, cos, sin, q_position, q_real, HALF,
                                       ROTATE, False)
            weights = _softmax(query_1.to(dtype), query_2.to(dtype), key_1, key_2, visible, scale, EXACT)
            mixed = _product(weights.to(dtype), value, EXACT)
            tl.store(out + q_token[:, None] * (H * E) + head * E + whole[None, :], mixed.to(dtype), mask=kept)


@triton.jit
def _norm_gradient(grad_1, grad_2, unit_1, unit_2, rstd, weight_1, weight_2, E: tl.constexpr):
    """From the gradient of unit * weight to that of what was normalised, and of the weight (both halves)."""
    of_weight_1, of_weight_2 = tl.sum(grad_1 * unit_1, 0), tl.sum(grad_2 * unit_2, 0)
    grad_1, grad_2 = grad_1 * weight_1, grad_2 * weight_2
    along = ((tl.sum(grad_1 * unit_1, 1) + tl.sum(grad_2 * unit_2, 1)) / E)[:, None]
    return ((grad_1 - along * unit_1) * rstd[:, None], (grad_2 - along * unit_2) * rstd[:, None],
            of_weight_1, of_weight_2)


@triton.jit
def _attention_backward(qkv, grad_out, grad_qkv, parts, query_weight, key_weight, cos, sin, starts, ends, scale, packs,
              sequences, stride_outer, stride_sequence, stride_position, LENGTH: tl.constexpr, PACK: tl.constexpr,
              BLOCK: tl.constexpr, TILE: tl.constexpr, H: tl.constexpr, G: tl.constexpr, E: tl.constexpr,
              HALF: tl.constexpr, ROTATE: tl.constexpr, NORM_EPS: tl.constexpr, EXACT: tl.constexpr):
    group, half, whole = tl.program_id(1), tl.arange(0, HALF), tl.arange(0, E)
    dtype = qkv.dtype.element_ty
    base = _base(packs, stride_outer, stride_sequence, PACK)
    token, sequence, position, real = _rows(0, packs, sequences, stride_sequence, stride_position, LENGTH, PACK, BLOCK)
    qkv += base * ((H + 2 * G) * E)
    grad_qkv += base * ((H + 2 * G) * E)
    grad_out += base * (H * E)
    row = token[:, None] * ((H + 2 * G) * E)
    key_at = row + (H + group) * E + half[None, :]
    value_at = row + (H + G + group) * E + whole[None, :]
    scale_1, scale_2 = tl.load(key_weight + half)[None, :], tl.load(key_weight + HALF + half)[None, :]
    one, two, key_rstd = _normalised(qkv + key_at, real[:, None], NORM_EPS, E, HALF)
    one, two = _turned(one * scale_1, two * scale_2, cos, sin, position, real, HALF, ROTATE, False)
    key_1, key_2 = one.to(dtype), two.to(dtype)
    value = tl.load(qkv + value_at, mask=real[:, None], other=0.0)
    weight_1, weight_2 = tl.load(query_weight + half)[None, :], tl.load(query_weight + HALF + half)[None, :]

    grad_value = tl.zeros((BLOCK, E), dtype=tl.float32)
    grad_key_1, grad_key_2 = tl.zeros((BLOCK, HALF), dtype=tl.float32), tl.zeros((BLOCK, HALF), dtype=tl.float32)
    of_query_1, of_query_2 = tl.zeros((HALF,), dtype=tl.float32), tl.zeros((HALF,), dtype=tl.float32)
    for tile in range((LENGTH * PACK + TILE - 1) // TILE):
        q_token, q_sequence, q_position, q_real = _rows(tile * TILE, packs, sequences, stride_sequence,
                                                        stride_position, LENGTH, PACK, TILE)
        kept = q_real[:, None]
        visible = _visible(q_sequence, q_position, q_real, sequence, position, real, starts, ends, BLOCK)
        for member in range(H // G):
            head = group * (H // G) + member
            at = q_token[:, None] * ((H + 2 * G) * E) + head * E + half[None, :]
            unit_1, unit_2, rstd = _normalised(qkv + at, kept, NORM_EPS, E, HALF)
            turned_1, turned_2 = _turned(unit_1 * weight_1, unit_2 * weight_2, cos, sin, q_position, q_real, HALF,
                                         ROTATE, False)
            query_1, query_2 = turned_1.to(dtype), turned_2.to(dtype)
            weights = _softmax(query_1, query_2, key_1, key_2, visible, scale, EXACT)
            grad = tl.load(grad_out + q_token[:, None] * (H * E) + head * E + whole[None, :], mask=kept, other=0.0)
            grad_value += _product(tl.trans(weights.to(dtype)), grad, EXACT)
            grad_weights = _product(grad, tl.trans(value), EXACT)
            grad_logits = weights * (grad_weights - tl.sum(weights * grad_weights, 1)[:, None]) * scale
            grad_logits = grad_logits.to(dtype)
            grad_key_1 += _product(tl.trans(grad_logits), query_1, EXACT)
            grad_key_2 += _product(tl.trans(grad_logits), query_2, EXACT)
            back_1, back_2 = _turned(_product(grad_logits, key_1, EXACT), _product(grad_logits, key_2, EXACT),
                                     cos, sin, q_position, q_real, HALF, ROTATE, True)
            back_1, back_2, in_1, in_2 = _norm_gradient(back_1, back_2, unit_1, unit_2, rstd, weight_1, weight_2, E)
            of_query_1 += in_1
            of_query_2 += in_2
            tl.store(grad_qkv + at, back_1.to(dtype), mask=kept)
            tl.store(grad_qkv + at + HALF, back_2.to(dtype), mask=kept)

    one, two, key_rstd = _normalised(qkv + key_at, real[:, None], NORM_EPS, E, HALF)  # again: fewer registers
    grad_key_1, grad_key_2 = _turned(grad_key_1, grad_key_2, cos, sin, position, real, HALF, ROTATE, True)
    one, two, of_key_1, of_key_2 = _norm_gradient(grad_key_1, grad_key_2, one, two, key_rstd, scale_1, scale_2, E)
    tl.store(grad_qkv + key_at, one.to(dtype), mask=real[:, None])
    tl.store(grad_qkv + key_at + HALF, two.to(dtype), mask=real[:, None])
    tl.store(grad_qkv + value_at, grad_value.to(dtype), mask=real[:, None])
    at = parts + (tl.program_id(0) * G + group) * (2 * E) + half
    tl.store(at, of_query_1)
    tl.store(at + HALF, of_query_2)
    tl.store(at + E, of_key_1)
    tl.store(at + E + HALF, of_key_2)
