"""Attention over short sequences as one Triton kernel each way: QK-norm, rotary embedding, softmax, no transposes.

Space attention has some hundred keys and time attention a few dozen: a whole sequence fits into one tile. So the
kernel reads the product of the qkv projection where it lies, (b t s c) with c = (heads + 2 kv_heads) * head_dim, along
either axis, and nothing but its output goes back to memory. The backward pass recomputes the softmax from the same
input: no statistics are stored. What a query sees is one range of keys, [starts, ends), so there is no mask either;
over time each row of the batch may have its own ranges, as where several clips lie side by side (segments).

Tiles have sizes of powers of 2. Very short sequences share one; one of over 64 rows is two parts, so that 80 rows cost
64 + 16 and not 128. The plain twin is `attend`; tests/transformer/test_short_attention.py.
"""

import math
from dataclasses import dataclass

import torch
import triton
from torch import Tensor

from wakedream.model.fp8 import E4M3
from wakedream.transformer.kernels import attention_backward, attention_forward

EPS = 1e-6
LEAST, MOST = 16, 64  # rows of a part: what a matrix unit takes, and what registers hold
WARPS = {16: 1, 32: 4, 64: 4}  # by rows of the first part


@dataclass(frozen=True)
class Walk:
    """How a program's rows lie in a (b t s c) tensor: outer x packs of sequences x positions."""

    outer: int
    sequences: int
    length: int
    pack: int
    strides: tuple[int, int, int]  # outer, sequence, position, in units of c

    @classmethod
    def along(cls, axis: str, shape: torch.Size) -> "Walk":
        b, t, s, _ = shape
        if axis == "space":
            return cls(1, b * t, s, max(1, LEAST // s), (0, s, 1))
        return cls(b, s, t, max(1, LEAST // t), (t * s, 1, s))

    @property
    def packs(self) -> int:
        return -(-self.sequences // self.pack)

    @property
    def parts(self) -> tuple[int, int]:
        """Rows of the first and of the second part, which may be none."""
        rows = self.length * self.pack
        second = 0 if rows <= MOST else max(LEAST, triton.next_power_of_2(rows - MOST))
        return min(MOST, max(LEAST, triton.next_power_of_2(rows))), second

    def arguments(self, heads: int, kv_heads: int, head_dim: int, cos: Tensor | None, starts: Tensor,
                  ends: Tensor) -> dict:
        outer, sequence, position = self.strides
        first, second = self.parts
        for ranges in (starts, ends):  # else the kernel would read what is not theirs
            assert ranges.shape in ((self.length,), (self.outer, self.length)), (ranges.shape, self)
            assert ranges.shape == starts.shape and ranges.dtype == torch.int32 and ranges.is_contiguous(), ranges
        return {"scale": 1 / math.sqrt(head_dim), "packs": self.packs, "sequences": self.sequences,
                "stride_outer": outer, "stride_sequence": sequence, "stride_position": position,
                "stride_ranges": 0 if starts.ndim == 1 else self.length, "LENGTH": self.length, "PACK": self.pack,
                "A": first, "B": second, "H": heads, "G": kv_heads, "E": head_dim, "HALF": head_dim // 2,
                "ROTATE": cos is not None, "NORM_EPS": EPS, "num_stages": 1, "num_warps": WARPS[first]}


def mixed_like(qkv: Tensor, heads: int, kv_heads: int, unit: Tensor | None = None) -> Tensor:
    """What attention puts out of (b t s c), empty: (b t s (h e)), of its type or, with a unit, e4m3."""
    return qkv.new_empty(*qkv.shape[:3], qkv.shape[-1] // (heads + 2 * kv_heads) * heads,
                         dtype=qkv.dtype if unit is None else E4M3)


@torch.library.custom_op("wakedream::short_attention", mutates_args=())
def short_attention(qkv: Tensor, query_weight: Tensor, key_weight: Tensor, cos: Tensor | None, sin: Tensor | None,
                    starts: Tensor, ends: Tensor, heads: int, kv_heads: int, axis: str) -> Tensor:
    """softmax(q k' / sqrt(e)) v along `axis`, "space" (s) or "time" (t); (b t s (h e)).

    qkv                   (b t s c), c = (heads + 2 kv_heads) e: the queries, keys and values of every token
    query_weight, key_weight   (e): QK-norm's weights
    cos, sin              float32 (length e/2): rotary angles by position, or None
    starts, ends          int32 (length) or, over time, (b length): each position attends to positions [start, end),
                          of which it must be one
    """
    qkv = qkv.contiguous()
    walk, head_dim = Walk.along(axis, qkv.shape), qkv.shape[-1] // (heads + 2 * kv_heads)
    out = mixed_like(qkv, heads, kv_heads)
    unread = query_weight if cos is None else cos  # any pointer will do
    attention_forward[(walk.outer * walk.packs, kv_heads)](
        qkv, out, query_weight, key_weight, unread, unread if sin is None else sin, starts, ends,
        **walk.arguments(heads, kv_heads, head_dim, cos, starts, ends))
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
    unread = query_weight if cos is None else cos
    attention_backward[(programs, kv_heads)](
        qkv, grad, grad_qkv, parts, query_weight, key_weight, unread, unread if sin is None else sin, starts, ends,
        **walk.arguments(heads, kv_heads, head_dim, cos, starts, ends))
    return grad_qkv, parts.sum(0)


@short_attention.register_fake
def _(qkv, query_weight, key_weight, cos, sin, starts, ends, heads, kv_heads, axis):
    return mixed_like(qkv, heads, kv_heads)


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
