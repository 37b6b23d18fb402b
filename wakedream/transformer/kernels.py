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
FORWARD_WARPS = {16: 1, 32: 2, 64: 4, 128: 8}  # by rows of a tile
BACKWARD_WARPS = {16: 1, 32: 2, 64: 4, 128: 8}


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
            return cls(1, b * t, s, max(1, 64 // s), (0, s, 1))
        return cls(b, s, t, max(1, 64 // t), (t * s, 1, s))

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
    _forward[(walk.outer * walk.packs, kv_heads)](
        qkv, out, query_weight, key_weight, angle, angle if sin is None else sin, starts, ends,
        1 / math.sqrt(head_dim), **walk.arguments(), H=heads, G=kv_heads, E=head_dim, HALF=head_dim // 2,
        ROTATE=cos is not None, NORM_EPS=EPS, EXACT=qkv.dtype == torch.float32, num_warps=FORWARD_WARPS[walk.block],
        num_stages=1)
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
    _backward[(programs, kv_heads)](
        qkv, grad, grad_qkv, parts, query_weight, key_weight, angle, angle if sin is None else sin, starts, ends,
        1 / math.sqrt(head_dim), **walk.arguments(), H=heads, G=kv_heads, E=head_dim, HALF=head_dim // 2,
        ROTATE=cos is not None, NORM_EPS=EPS, EXACT=qkv.dtype == torch.float32, num_warps=BACKWARD_WARPS[walk.block],
        num_stages=1)
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
def _tile(packs, sequences, stride_outer, stride_sequence, stride_position,
          LENGTH: tl.constexpr, PACK: tl.constexpr, BLOCK: tl.constexpr):
    """Of the tile's rows: number of the token, sequence, position, and whether there is such a row."""
    program = tl.program_id(0).to(tl.int64)
    outer, pack = program // packs, program % packs
    rows = tl.arange(0, BLOCK)
    sequence, position = rows // LENGTH, rows % LENGTH
    real = (sequence < PACK) & (pack * PACK + sequence < sequences)
    token = outer * stride_outer + (pack * PACK + sequence) * stride_sequence + position * stride_position
    return token, sequence, position, real


@triton.jit
def _visible(sequence, position, real, starts, ends, BLOCK: tl.constexpr):
    """bool (query key); rows that are not real see themselves, so that no softmax is empty."""
    start = tl.load(starts + position, mask=real, other=0)
    end = tl.load(ends + position, mask=real, other=0)
    rows = tl.arange(0, BLOCK)
    same = sequence[:, None] == sequence[None, :]
    inside = (position[None, :] >= start[:, None]) & (position[None, :] < end[:, None])
    both = real[:, None] & real[None, :]
    return (same & inside & both) | ((rows[:, None] == rows[None, :]) & ~both)


@triton.jit
def _normalised(first, second, NORM_EPS: tl.constexpr, E: tl.constexpr):
    """Both halves over their common root mean square (without the weight), and 1 / rms."""
    first, second = first.to(tl.float32), second.to(tl.float32)
    rstd = tl.rsqrt((tl.sum(first * first, 1) + tl.sum(second * second, 1)) / E + NORM_EPS)
    return first * rstd[:, None], second * rstd[:, None], rstd


@triton.jit
def _turned(first, second, cos, sin, ROTATE: tl.constexpr):
    if ROTATE:
        return first * cos - second * sin, first * sin + second * cos
    return first, second


@triton.jit
def _angles(cos, sin, position, real, HALF: tl.constexpr, ROTATE: tl.constexpr):
    half = tl.arange(0, HALF)
    if ROTATE:
        at = position[:, None] * HALF + half[None, :]
        return tl.load(cos + at, mask=real[:, None], other=0.0), tl.load(sin + at, mask=real[:, None], other=0.0)
    zero = tl.zeros((1, 1), dtype=tl.float32)
    return zero, zero


@triton.jit
def _product(a, b, EXACT: tl.constexpr):
    if EXACT:
        return tl.dot(a, b, input_precision="ieee")
    return tl.dot(a, b)


@triton.jit
def _softmax(query_1, query_2, key_1, key_2, visible, scale, EXACT: tl.constexpr):
    logits = _product(query_1, tl.trans(key_1), EXACT) + _product(query_2, tl.trans(key_2), EXACT)
    logits = tl.where(visible, logits * (scale * 1.4426950408889634), float("-inf"))
    weights = tl.exp2(logits - tl.max(logits, 1)[:, None])
    return weights / tl.sum(weights, 1)[:, None]


@triton.jit
def _forward(qkv, out, query_weight, key_weight, cos, sin, starts, ends, scale, packs, sequences, stride_outer,
             stride_sequence, stride_position, LENGTH: tl.constexpr, PACK: tl.constexpr, BLOCK: tl.constexpr,
             H: tl.constexpr, G: tl.constexpr, E: tl.constexpr, HALF: tl.constexpr, ROTATE: tl.constexpr,
             NORM_EPS: tl.constexpr, EXACT: tl.constexpr):
    token, sequence, position, real = _tile(packs, sequences, stride_outer, stride_sequence, stride_position,
                                            LENGTH, PACK, BLOCK)
    visible = _visible(sequence, position, real, starts, ends, BLOCK)
    group, half, kept = tl.program_id(1), tl.arange(0, HALF), real[:, None]
    row = token[:, None] * ((H + 2 * G) * E)
    angle_cos, angle_sin = _angles(cos, sin, position, real, HALF, ROTATE)
    dtype = qkv.dtype.element_ty

    at = qkv + row + (H + group) * E + half[None, :]
    one, two, _ = _normalised(tl.load(at, mask=kept, other=0.0), tl.load(at + HALF, mask=kept, other=0.0),
                              NORM_EPS, E)
    one, two = one * tl.load(key_weight + half)[None, :], two * tl.load(key_weight + HALF + half)[None, :]
    one, two = _turned(one, two, angle_cos, angle_sin, ROTATE)
    key_1, key_2 = one.to(dtype), two.to(dtype)
    value = tl.load(qkv + row + (H + G + group) * E + tl.arange(0, E)[None, :], mask=kept, other=0.0)
    weight_1, weight_2 = tl.load(query_weight + half)[None, :], tl.load(query_weight + HALF + half)[None, :]
    for member in tl.static_range(H // G):
        head = group * (H // G) + member
        at = qkv + row + head * E + half[None, :]
        one, two, _ = _normalised(tl.load(at, mask=kept, other=0.0), tl.load(at + HALF, mask=kept, other=0.0),
                                  NORM_EPS, E)
        one, two = _turned(one * weight_1, two * weight_2, angle_cos, angle_sin, ROTATE)
        weights = _softmax(one.to(dtype), two.to(dtype), key_1, key_2, visible, scale, EXACT)
        mixed = _product(weights.to(dtype), value, EXACT)
        tl.store(out + token[:, None] * (H * E) + head * E + tl.arange(0, E)[None, :], mixed.to(dtype), mask=kept)


@triton.jit
def _norm_gradient(grad_1, grad_2, unit_1, unit_2, rstd, weight_1, weight_2, cos, sin, E: tl.constexpr,
                   ROTATE: tl.constexpr):
    """From the gradient of rotate(unit * weight) to that of the projection, and of the weight (both halves)."""
    if ROTATE:
        grad_1, grad_2 = grad_1 * cos + grad_2 * sin, grad_2 * cos - grad_1 * sin
    of_weight_1, of_weight_2 = tl.sum(grad_1 * unit_1, 0), tl.sum(grad_2 * unit_2, 0)
    grad_1, grad_2 = grad_1 * weight_1, grad_2 * weight_2
    along = ((tl.sum(grad_1 * unit_1, 1) + tl.sum(grad_2 * unit_2, 1)) / E)[:, None]
    return ((grad_1 - along * unit_1) * rstd[:, None], (grad_2 - along * unit_2) * rstd[:, None],
            of_weight_1, of_weight_2)


@triton.jit
def _backward(qkv, grad_out, grad_qkv, parts, query_weight, key_weight, cos, sin, starts, ends, scale, packs,
              sequences, stride_outer, stride_sequence, stride_position, LENGTH: tl.constexpr, PACK: tl.constexpr,
              BLOCK: tl.constexpr, H: tl.constexpr, G: tl.constexpr, E: tl.constexpr, HALF: tl.constexpr,
              ROTATE: tl.constexpr, NORM_EPS: tl.constexpr, EXACT: tl.constexpr):
    token, sequence, position, real = _tile(packs, sequences, stride_outer, stride_sequence, stride_position,
                                            LENGTH, PACK, BLOCK)
    visible = _visible(sequence, position, real, starts, ends, BLOCK)
    group, half, whole, kept = tl.program_id(1), tl.arange(0, HALF), tl.arange(0, E), real[:, None]
    row = token[:, None] * ((H + 2 * G) * E)
    angle_cos, angle_sin = _angles(cos, sin, position, real, HALF, ROTATE)
    dtype = qkv.dtype.element_ty

    key_at = row + (H + group) * E + half[None, :]
    unit_1, unit_2, key_rstd = _normalised(tl.load(qkv + key_at, mask=kept, other=0.0),
                                           tl.load(qkv + key_at + HALF, mask=kept, other=0.0),
                                           NORM_EPS, E)
    scale_1, scale_2 = tl.load(key_weight + half)[None, :], tl.load(key_weight + HALF + half)[None, :]
    one, two = _turned(unit_1 * scale_1, unit_2 * scale_2, angle_cos, angle_sin, ROTATE)
    key_1, key_2 = one.to(dtype), two.to(dtype)
    value_at = row + (H + G + group) * E + whole[None, :]
    value = tl.load(qkv + value_at, mask=kept, other=0.0)
    weight_1, weight_2 = tl.load(query_weight + half)[None, :], tl.load(query_weight + HALF + half)[None, :]

    grad_value = tl.zeros((BLOCK, E), dtype=tl.float32)
    grad_key_1, grad_key_2 = tl.zeros((BLOCK, HALF), dtype=tl.float32), tl.zeros((BLOCK, HALF), dtype=tl.float32)
    of_query_1, of_query_2 = tl.zeros((HALF,), dtype=tl.float32), tl.zeros((HALF,), dtype=tl.float32)
    for member in tl.static_range(H // G):
        head = group * (H // G) + member
        at = row + head * E + half[None, :]
        query_unit_1, query_unit_2, rstd = _normalised(tl.load(qkv + at, mask=kept, other=0.0),
                                                       tl.load(qkv + at + HALF, mask=kept, other=0.0),
                                                       NORM_EPS, E)
        one, two = _turned(query_unit_1 * weight_1, query_unit_2 * weight_2, angle_cos, angle_sin, ROTATE)
        query_1, query_2 = one.to(dtype), two.to(dtype)
        weights = _softmax(query_1, query_2, key_1, key_2, visible, scale, EXACT)
        grad = tl.load(grad_out + token[:, None] * (H * E) + head * E + whole[None, :], mask=kept, other=0.0)
        grad_value += _product(tl.trans(weights.to(dtype)), grad, EXACT)
        grad_weights = _product(grad, tl.trans(value), EXACT)
        grad_logits = weights * (grad_weights - tl.sum(weights * grad_weights, 1)[:, None]) * scale
        grad_logits = grad_logits.to(dtype)
        grad_key_1 += _product(tl.trans(grad_logits), query_1, EXACT)
        grad_key_2 += _product(tl.trans(grad_logits), query_2, EXACT)
        one, two, in_1, in_2 = _norm_gradient(
            _product(grad_logits, key_1, EXACT), _product(grad_logits, key_2, EXACT), query_unit_1, query_unit_2,
            rstd, weight_1, weight_2, angle_cos, angle_sin, E, ROTATE)
        of_query_1 += in_1
        of_query_2 += in_2
        tl.store(grad_qkv + at, one.to(dtype), mask=kept)
        tl.store(grad_qkv + at + HALF, two.to(dtype), mask=kept)

    one, two, of_key_1, of_key_2 = _norm_gradient(grad_key_1, grad_key_2, unit_1, unit_2, key_rstd, scale_1, scale_2,
                                                  angle_cos, angle_sin, E, ROTATE)
    tl.store(grad_qkv + key_at, one.to(dtype), mask=kept)
    tl.store(grad_qkv + key_at + HALF, two.to(dtype), mask=kept)
    tl.store(grad_qkv + value_at, grad_value.to(dtype), mask=kept)
    at = parts + (tl.program_id(0) * G + group) * (2 * E) + half
    tl.store(at, of_query_1)
    tl.store(at + HALF, of_query_2)
    tl.store(at + E, of_key_1)
    tl.store(at + E + HALF, of_key_2)
