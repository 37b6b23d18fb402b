"""Attention of the next frames over the ring as one Triton kernel: QK-norm, rotary embedding, the ring's new entries.

For inference, where one frame follows the other: each query looks at a few hundred keys, so all that counts is to read
the ring once, at full speed. A program has one key head of one token, with the queries of all heads that share it and
of all new frames; no other program reads or writes that column of the ring. What is seen follows from the frame numbers
of the slots, as in `frame_mask`, so there is no mask tensor.

The plain twin is `LayerCache.join` with `attend`; tests/transformer/test_ring_attention.py.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from wakedream.transformer.kernels import _finish, _keys, _logits, _more, _norm_weight, _queries
from wakedream.transformer.short_attention import EPS, LEAST, mixed_like

BLOCK, WARPS, STAGES = 32, 2, 2  # slots of the ring at once: 29 us a layer of `paper` on an H100 (64, 4, 2: 32)


@torch.library.custom_op("wakedream::ring_attention", mutates_args=("keys", "values"))
def ring_attention(qkv: Tensor, query_weight: Tensor, key_weight: Tensor, cos: Tensor, sin: Tensor, keys: Tensor,
                   values: Tensor, held_ids: Tensor, held_segments: Tensor, new_ids: Tensor, new_segments: Tensor,
                   written: int, heads: int, kv_heads: int, unit: Tensor | None = None) -> Tensor:
    """Attention of the new frames over time, (b t s (h e)); the ring takes the first `written` of them.

    qkv                        (b t s c), c = (heads + 2 kv_heads) e: queries, keys and values of the new frames
    query_weight, key_weight   (e): QK-norm's weights
    cos, sin                   float32 (b t e/2): rotary angles of the new frames
    keys, values               (b window n g e), n >= s: the ring, changed in place
    held_ids, held_segments    int64 (b window): of the frames in the ring before these
    new_ids, new_segments      int64 (b t): of the new frames, which are later than all that the ring holds
    unit                       float32 (): that of the `Fp8Product` which takes what comes out; it is then e4m3, over it

    So the frame that a new one replaces is out of its sight. One that is replaced by a later one may be seen by an
    earlier one: all is read before something is written.
    """
    b, t, s, c = qkv.shape
    window, head_dim = keys.shape[1], c // (heads + 2 * kv_heads)
    assert keys.shape == values.shape == (b, window, keys.shape[2], kv_heads, head_dim), (keys.shape, qkv.shape)
    assert keys.shape[2] >= s and keys.is_contiguous() and values.is_contiguous(), (keys.shape, keys.stride())
    assert held_ids.shape == held_segments.shape == (b, window) and new_ids.shape == new_segments.shape == (b, t)
    assert cos.shape == sin.shape == (b, t, head_dim // 2) and written <= t, (cos.shape, written)
    small = [part.contiguous() for part in (cos, sin, held_ids, held_segments, new_ids, new_segments)]
    cos, sin, *numbers = small
    out = mixed_like(qkv, heads, kv_heads, unit)
    ring_attention_forward[(b * s * kv_heads,)](
        qkv.contiguous(), out, query_weight, key_weight, cos, sin, keys, values, *numbers, unit,
        1 / math.sqrt(head_dim), T=t, TOKENS=s, STORED=keys.shape[2], WINDOW=window, FIRST=max(0, written - window),
        WRITTEN=written, H=heads, G=kv_heads, E=head_dim, HALF=head_dim // 2, NORM_EPS=EPS,
        ROWS=max(LEAST, triton.next_power_of_2(t * heads // kv_heads)),
        BLOCK=min(BLOCK, max(LEAST, triton.next_power_of_2(window))), num_warps=WARPS, num_stages=STAGES)
    return out


@ring_attention.register_fake
def _(qkv, query_weight, key_weight, cos, sin, keys, values, held_ids, held_segments, new_ids, new_segments, written,
      heads, kv_heads, unit=None):
    return mixed_like(qkv, heads, kv_heads, unit)


@triton.jit
def _sees(query_id, query_segment, key_id, key_segment, WINDOW: tl.constexpr):
    """attention.frame_mask."""
    ahead = query_id - key_id
    return (ahead >= 0) & (ahead < WINDOW) & (key_id >= 0) & (query_segment == key_segment)


@triton.jit
def _new(frame, qkv, key_weight, cos, sin, group, TOKENS: tl.constexpr, H: tl.constexpr, G: tl.constexpr,
         E: tl.constexpr, HALF: tl.constexpr, NORM_EPS: tl.constexpr):
    """A new frame's key as it is stored, as two halves (1 e/2), and value (1 e)."""
    position = tl.arange(0, 1) + frame
    return _keys(qkv, position * TOKENS, position, position >= 0, key_weight, cos, sin, group, H, G, E, HALF, True,
                 NORM_EPS)


@triton.jit
def _put(frame, qkv, key_weight, cos, sin, keys, values, new_ids, group, TOKENS: tl.constexpr, STORED: tl.constexpr,
         WINDOW: tl.constexpr, H: tl.constexpr, G: tl.constexpr, E: tl.constexpr, HALF: tl.constexpr,
         NORM_EPS: tl.constexpr):
    """Store a new frame's key and value in its slot."""
    key_1, key_2, value = _new(frame, qkv, key_weight, cos, sin, group, TOKENS, H, G, E, HALF, NORM_EPS)
    lies = (tl.load(new_ids + frame) % WINDOW) * (STORED * G * E)
    at = keys + lies + tl.arange(0, HALF)[None, :]
    dtype: tl.constexpr = keys.dtype.element_ty
    tl.store(at, key_1.to(dtype))
    tl.store(at + HALF, key_2.to(dtype))
    tl.store(values + lies + tl.arange(0, E)[None, :], value.to(dtype))


@triton.jit
def _among(query_1, query_2, ids, segments, qkv, key_weight, cos, sin, new_ids, new_segments, scale, group,
           T: tl.constexpr, TOKENS: tl.constexpr, WINDOW: tl.constexpr, H: tl.constexpr, G: tl.constexpr,
           E: tl.constexpr, HALF: tl.constexpr, NORM_EPS: tl.constexpr, ROWS: tl.constexpr):
    """The softmax over the new frames alone: highest logit, divisor, sum. So few keys are no tile: products without a
    matrix unit."""
    highest, total = tl.full((ROWS,), -1e30, dtype=tl.float32), tl.zeros((ROWS,), dtype=tl.float32)
    mixed = tl.zeros((ROWS, E), dtype=tl.float32)
    for frame in tl.static_range(T):
        key_1, key_2, value = _new(frame, qkv, key_weight, cos, sin, group, TOKENS, H, G, E, HALF, NORM_EPS)
        seen = _sees(ids, segments, tl.load(new_ids + frame), tl.load(new_segments + frame), WINDOW)
        logits = (tl.sum(query_1.to(tl.float32) * key_1.to(tl.float32), 1)
                  + tl.sum(query_2.to(tl.float32) * key_2.to(tl.float32), 1))
        logits = tl.where(seen, logits * (scale * 1.4426950408889634), -1e30)
        higher = tl.maximum(highest, logits)
        weights, shrunk = tl.exp2(logits - higher), tl.exp2(highest - higher)
        highest, total = higher, total * shrunk + weights
        mixed = mixed * shrunk[:, None] + weights[:, None] * value.to(tl.float32)
    return highest, total, mixed


@triton.jit
def ring_attention_forward(qkv, out, query_weight, key_weight, cos, sin, keys, values, held_ids, held_segments,
                           new_ids, new_segments, unit, scale, T: tl.constexpr, TOKENS: tl.constexpr,
                           STORED: tl.constexpr, WINDOW: tl.constexpr, FIRST: tl.constexpr, WRITTEN: tl.constexpr,
                           H: tl.constexpr, G: tl.constexpr, E: tl.constexpr, HALF: tl.constexpr,
                           NORM_EPS: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    program = tl.program_id(0)
    group, token, row = program % G, program // G % TOKENS, (program // (G * TOKENS)).to(tl.int64)
    qkv += (row * (T * TOKENS) + token) * ((H + 2 * G) * E)
    out += (row * (T * TOKENS) + token) * (H * E)
    cos, sin = cos + row * (T * HALF), sin + row * (T * HALF)
    new_ids, new_segments = new_ids + row * T, new_segments + row * T
    held_ids, held_segments = held_ids + row * WINDOW, held_segments + row * WINDOW
    column = row * WINDOW * (STORED * G * E) + token * (G * E) + group * E
    keys, values = keys + column, values + column
    half, whole = tl.arange(0, HALF), tl.arange(0, E)
    dtype: tl.constexpr = qkv.dtype.element_ty

    rows = tl.arange(0, ROWS)  # frame by frame the heads that share the key
    frame, head, real = rows // (H // G), group * (H // G) + rows % (H // G), rows < T * (H // G)
    ids = tl.load(new_ids + frame, mask=real, other=-1)  # which sees nothing
    segments = tl.load(new_segments + frame, mask=real, other=0)
    weight_1, weight_2 = _norm_weight(query_weight, HALF)
    at = qkv + (frame * (TOKENS * (H + 2 * G) * E) + head * E)[:, None] + half[None, :]
    query_1, query_2, unit_1, unit_2, rstd = _queries(at, real[:, None], weight_1, weight_2, cos, sin, frame, real,
                                                      dtype, E, HALF, True, NORM_EPS)
    highest, total, mixed = _among(query_1, query_2, ids, segments, qkv, key_weight, cos, sin, new_ids, new_segments,
                                   scale, group, T, TOKENS, WINDOW, H, G, E, HALF, NORM_EPS, ROWS)
    for first in range(0, WINDOW, BLOCK):
        slot = first + tl.arange(0, BLOCK)
        key_ids = tl.load(held_ids + slot, mask=slot < WINDOW, other=-1)
        key_segments = tl.load(held_segments + slot, mask=slot < WINDOW, other=0)
        kept = (key_ids >= 0)[:, None]  # what lies in an empty slot might be no number
        lies = slot.to(tl.int64)[:, None] * (STORED * G * E)
        key_1 = tl.load(keys + lies + half[None, :], mask=kept, other=0.0).to(dtype)
        key_2 = tl.load(keys + lies + HALF + half[None, :], mask=kept, other=0.0).to(dtype)
        value = tl.load(values + lies + whole[None, :], mask=kept, other=0.0).to(dtype)
        seen = _sees(ids[:, None], segments[:, None], key_ids[None, :], key_segments[None, :], WINDOW)
        weights, shrunk, highest, total = _more(_logits(query_1, query_2, key_1, key_2, seen, scale), highest, total)
        mixed = mixed * shrunk[:, None] + tl.dot(weights.to(dtype), value)
    at = out + (frame * (TOKENS * H * E) + head * E)[:, None] + whole[None, :]
    _finish(at, mixed, total, unit, real[:, None])

    tl.debug_barrier()  # all threads have read
    for one in tl.static_range(FIRST, WRITTEN):
        _put(one, qkv, key_weight, cos, sin, keys, values, new_ids, group, TOKENS, STORED, WINDOW, H, G, E, HALF,
             NORM_EPS)
