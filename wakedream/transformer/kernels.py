"""The Triton kernels behind `short_attention.py`: one program for each key head of one tile of sequences.

Their parts serve `ring_attention.py` and `frame_attention.py` too.
"""

import triton
import triton.language as tl


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
def _ranges(starts, ends, packs, stride_ranges):
    """Those of the program's row: what each position sees."""
    row = tl.program_id(0) // packs
    return starts + row * stride_ranges, ends + row * stride_ranges


@triton.jit
def _visible(sequence, position, real, key_sequence, key_position, key_real, starts, ends):
    """bool (query key)."""
    start = tl.load(starts + position, mask=real, other=0)
    end = tl.load(ends + position, mask=real, other=0)
    inside = (key_position[None, :] >= start[:, None]) & (key_position[None, :] < end[:, None])
    return inside & (sequence[:, None] == key_sequence[None, :]) & key_real[None, :]


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
def _norm_weight(weight, HALF: tl.constexpr):
    half = tl.arange(0, HALF)
    return tl.load(weight + half)[None, :], tl.load(weight + HALF + half)[None, :]


@triton.jit
def _keys(qkv, token, position, real, key_weight, cos, sin, group, H: tl.constexpr, G: tl.constexpr, E: tl.constexpr,
          HALF: tl.constexpr, ROTATE: tl.constexpr, NORM_EPS: tl.constexpr):
    """Keys, as two halves, and values of a part's rows."""
    row, kept = qkv + token[:, None] * ((H + 2 * G) * E), real[:, None]
    unit_1, unit_2, rstd = _normalised(row + (H + group) * E + tl.arange(0, HALF)[None, :], kept, NORM_EPS, E, HALF)
    weight_1, weight_2 = _norm_weight(key_weight, HALF)
    key_1, key_2 = _turned(unit_1 * weight_1, unit_2 * weight_2, cos, sin, position, real, HALF, ROTATE, False)
    value = tl.load(row + (H + G + group) * E + tl.arange(0, E)[None, :], mask=kept, other=0.0)
    return key_1.to(value.dtype), key_2.to(value.dtype), value


@triton.jit
def _logits(query_1, query_2, key_1, key_2, visible, scale):
    """In powers of 2; rows that see nothing are not real and get zeros everywhere."""
    logits = tl.dot(query_1, tl.trans(key_1)) + tl.dot(query_2, tl.trans(key_2))
    return tl.where(visible, logits * (scale * 1.4426950408889634), -1e30)


@triton.jit
def _more(logits, highest, total):
    """One more block of keys in a softmax made block by block: its weights, the factor for what was gathered before,
    and the highest logit and the divisor so far. What a row gathers that sees nothing yet gets the factor 0 later."""
    higher = tl.maximum(highest, tl.max(logits, 1))
    weights, shrunk = tl.exp2(logits - higher[:, None]), tl.exp2(highest - higher)
    return weights, shrunk, higher, total * shrunk + tl.sum(weights, 1)


@triton.jit
def _finish(at, mixed, total, unit, kept):
    """Divide by the softmax's divisor and store; with a unit in e4m3, as `fp8.e4m3` makes it."""
    mixed = mixed / total[:, None]
    if unit is not None:
        mixed = tl.clamp(mixed / tl.load(unit), -448.0, 448.0, propagate_nan=tl.PropagateNan.ALL)
    tl.store(at, mixed.to(at.dtype.element_ty), mask=kept)


@triton.jit
def _queries(at, kept, weight_1, weight_2, cos, sin, position, real, dtype: tl.constexpr, E: tl.constexpr,
             HALF: tl.constexpr, ROTATE: tl.constexpr, NORM_EPS: tl.constexpr):
    """The queries at `at` as two halves; what they were before the norm's weight, and 1 / rms."""
    unit_1, unit_2, rstd = _normalised(at, kept, NORM_EPS, E, HALF)
    query_1, query_2 = _turned(unit_1 * weight_1, unit_2 * weight_2, cos, sin, position, real, HALF, ROTATE, False)
    return query_1.to(dtype), query_2.to(dtype), unit_1, unit_2, rstd


@triton.jit
def _exponentials(query_1, query_2, keys_a, keys_b, visible_a, visible_b, scale, B: tl.constexpr):
    """The softmax over both parts before its division, and the divisor; without a second part it is the first."""
    logits_a = _logits(query_1, query_2, keys_a[0], keys_a[1], visible_a, scale)
    highest = tl.max(logits_a, 1)
    if B > 0:
        logits_b = _logits(query_1, query_2, keys_b[0], keys_b[1], visible_b, scale)
        highest = tl.maximum(highest, tl.max(logits_b, 1))
        weights_b = tl.exp2(logits_b - highest[:, None])
        weights_a = tl.exp2(logits_a - highest[:, None])
        total = tl.sum(weights_a, 1) + tl.sum(weights_b, 1)
    else:
        weights_a = tl.exp2(logits_a - highest[:, None])
        weights_b, total = weights_a, tl.sum(weights_a, 1)
    return weights_a, weights_b, total


@triton.jit
def _forward_rows(first, ROWS: tl.constexpr, qkv, out, query_weight, cos, sin, starts, ends, scale, packs, sequences,
                  stride_sequence, stride_position, group, keys_a, rows_a, keys_b, rows_b, LENGTH: tl.constexpr,
                  PACK: tl.constexpr, B: tl.constexpr, H: tl.constexpr, G: tl.constexpr, E: tl.constexpr,
                  HALF: tl.constexpr, ROTATE: tl.constexpr, NORM_EPS: tl.constexpr):
    """The outputs of ROWS queries."""
    token, sequence, position, real = _rows(first, packs, sequences, stride_sequence, stride_position, LENGTH, PACK,
                                            ROWS)
    kept, half, whole = real[:, None], tl.arange(0, HALF), tl.arange(0, E)
    weight_1, weight_2 = _norm_weight(query_weight, HALF)
    visible_a = _visible(sequence, position, real, rows_a[1], rows_a[2], rows_a[3], starts, ends)
    visible_b = _visible(sequence, position, real, rows_b[1], rows_b[2], rows_b[3], starts, ends)
    for member in tl.static_range(H // G):
        head = group * (H // G) + member
        at = qkv + token[:, None] * ((H + 2 * G) * E) + head * E + half[None, :]
        query_1, query_2, unit_1, unit_2, rstd = _queries(at, kept, weight_1, weight_2, cos, sin, position, real,
                                                          keys_a[2].dtype, E, HALF, ROTATE, NORM_EPS)
        weights_a, weights_b, total = _exponentials(query_1, query_2, keys_a, keys_b, visible_a, visible_b, scale, B)
        mixed = tl.dot(weights_a.to(keys_a[2].dtype), keys_a[2])
        if B > 0:
            mixed += tl.dot(weights_b.to(keys_a[2].dtype), keys_b[2])
        mixed = mixed / total[:, None]
        tl.store(out + token[:, None] * (H * E) + head * E + whole[None, :], mixed.to(keys_a[2].dtype), mask=kept)


@triton.jit
def attention_forward(qkv, out, query_weight, key_weight, cos, sin, starts, ends, scale, packs, sequences,
                       stride_outer, stride_sequence, stride_position, stride_ranges, LENGTH: tl.constexpr,
                       PACK: tl.constexpr, A: tl.constexpr, B: tl.constexpr, H: tl.constexpr, G: tl.constexpr,
                       E: tl.constexpr, HALF: tl.constexpr, ROTATE: tl.constexpr, NORM_EPS: tl.constexpr):
    group, base = tl.program_id(1), _base(packs, stride_outer, stride_sequence, PACK)
    starts, ends = _ranges(starts, ends, packs, stride_ranges)
    qkv += base * ((H + 2 * G) * E)
    out += base * (H * E)
    rows_a = _rows(0, packs, sequences, stride_sequence, stride_position, LENGTH, PACK, A)
    keys_a = _keys(qkv, rows_a[0], rows_a[2], rows_a[3], key_weight, cos, sin, group, H, G, E, HALF, ROTATE, NORM_EPS)
    if B > 0:
        rows_b = _rows(A, packs, sequences, stride_sequence, stride_position, LENGTH, PACK, B)
        keys_b = _keys(qkv, rows_b[0], rows_b[2], rows_b[3], key_weight, cos, sin, group, H, G, E, HALF, ROTATE,
                       NORM_EPS)
        _forward_rows(A, B, qkv, out, query_weight, cos, sin, starts, ends, scale, packs, sequences, stride_sequence,
                      stride_position, group, keys_a, rows_a, keys_b, rows_b, LENGTH, PACK, B, H, G, E, HALF, ROTATE,
                      NORM_EPS)
    else:
        rows_b, keys_b = rows_a, keys_a
    _forward_rows(0, A, qkv, out, query_weight, cos, sin, starts, ends, scale, packs, sequences, stride_sequence,
                  stride_position, group, keys_a, rows_a, keys_b, rows_b, LENGTH, PACK, B, H, G, E, HALF, ROTATE,
                  NORM_EPS)


@triton.jit
def _norm_gradient(grad_1, grad_2, unit_1, unit_2, rstd, weight_1, weight_2, E: tl.constexpr):
    """From the gradient of unit * weight to that of what was normalised, and of the weight (both halves)."""
    of_weight_1, of_weight_2 = tl.sum(grad_1 * unit_1, 0), tl.sum(grad_2 * unit_2, 0)
    grad_1, grad_2 = grad_1 * weight_1, grad_2 * weight_2
    along = ((tl.sum(grad_1 * unit_1, 1) + tl.sum(grad_2 * unit_2, 1)) / E)[:, None]
    return ((grad_1 - along * unit_1) * rstd[:, None], (grad_2 - along * unit_2) * rstd[:, None],
            of_weight_1, of_weight_2)


@triton.jit
def _gather(of_keys, weights, grad_logits, grad, query_1, query_2):
    """Add one head's part to the gradients of keys (both halves) and values."""
    weights, grad_logits = tl.trans(weights.to(grad.dtype)), tl.trans(grad_logits)
    return (of_keys[0] + tl.dot(grad_logits, query_1), of_keys[1] + tl.dot(grad_logits, query_2),
            of_keys[2] + tl.dot(weights, grad))


@triton.jit
def _backward_rows(first, ROWS: tl.constexpr, qkv, grad_out, grad_qkv, query_weight, cos, sin, starts, ends, scale,
                   packs, sequences, stride_sequence, stride_position, group, keys_a, rows_a, keys_b, rows_b, of_a,
                   of_b, of_query, LENGTH: tl.constexpr, PACK: tl.constexpr, B: tl.constexpr, H: tl.constexpr,
                   G: tl.constexpr, E: tl.constexpr, HALF: tl.constexpr, ROTATE: tl.constexpr,
                   NORM_EPS: tl.constexpr):
    """Store the gradients of ROWS queries; add theirs to those of keys, values and the norm's weight."""
    token, sequence, position, real = _rows(first, packs, sequences, stride_sequence, stride_position, LENGTH, PACK,
                                            ROWS)
    kept, half, whole = real[:, None], tl.arange(0, HALF), tl.arange(0, E)
    weight_1, weight_2 = _norm_weight(query_weight, HALF)
    visible_a = _visible(sequence, position, real, rows_a[1], rows_a[2], rows_a[3], starts, ends)
    visible_b = _visible(sequence, position, real, rows_b[1], rows_b[2], rows_b[3], starts, ends)
    for member in tl.static_range(H // G):
        head = group * (H // G) + member
        at = token[:, None] * ((H + 2 * G) * E) + head * E + half[None, :]
        grad = tl.load(grad_out + token[:, None] * (H * E) + head * E + whole[None, :], mask=kept, other=0.0)
        query_1, query_2, unit_1, unit_2, rstd = _queries(qkv + at, kept, weight_1, weight_2, cos, sin, position, real,
                                                          grad.dtype, E, HALF, ROTATE, NORM_EPS)
        weights_a, weights_b, total = _exponentials(query_1, query_2, keys_a, keys_b, visible_a, visible_b, scale, B)
        weights_a, weights_b = weights_a / total[:, None], weights_b / total[:, None]
        grad_a = tl.dot(grad, tl.trans(keys_a[2]))
        mean = tl.sum(weights_a * grad_a, 1)
        if B > 0:
            grad_b = tl.dot(grad, tl.trans(keys_b[2]))
            mean += tl.sum(weights_b * grad_b, 1)
            grad_b = (weights_b * (grad_b - mean[:, None]) * scale).to(grad.dtype)
            of_b = _gather(of_b, weights_b, grad_b, grad, query_1, query_2)
        grad_a = (weights_a * (grad_a - mean[:, None]) * scale).to(grad.dtype)
        of_a = _gather(of_a, weights_a, grad_a, grad, query_1, query_2)
        back_1, back_2 = tl.dot(grad_a, keys_a[0]), tl.dot(grad_a, keys_a[1])
        if B > 0:
            back_1 += tl.dot(grad_b, keys_b[0])
            back_2 += tl.dot(grad_b, keys_b[1])
        back_1, back_2 = _turned(back_1, back_2, cos, sin, position, real, HALF, ROTATE, True)
        back_1, back_2, in_1, in_2 = _norm_gradient(back_1, back_2, unit_1, unit_2, rstd, weight_1, weight_2, E)
        of_query = (of_query[0] + in_1, of_query[1] + in_2)
        tl.store(grad_qkv + at, back_1.to(grad.dtype), mask=kept)
        tl.store(grad_qkv + at + HALF, back_2.to(grad.dtype), mask=kept)
    return of_a, of_b, of_query


@triton.jit
def _store_keys(rows, of_keys, qkv, grad_qkv, key_weight, cos, sin, group, H: tl.constexpr, G: tl.constexpr,
                E: tl.constexpr, HALF: tl.constexpr, ROTATE: tl.constexpr, NORM_EPS: tl.constexpr):
    """Store the gradients of a part's keys and values; that of the norm's weight (both halves)."""
    row, kept = rows[0][:, None] * ((H + 2 * G) * E), rows[3][:, None]
    at = row + (H + group) * E + tl.arange(0, HALF)[None, :]
    unit_1, unit_2, rstd = _normalised(qkv + at, kept, NORM_EPS, E, HALF)  # again: it would take registers till here
    weight_1, weight_2 = _norm_weight(key_weight, HALF)
    grad_1, grad_2 = _turned(of_keys[0], of_keys[1], cos, sin, rows[2], rows[3], HALF, ROTATE, True)
    grad_1, grad_2, of_1, of_2 = _norm_gradient(grad_1, grad_2, unit_1, unit_2, rstd, weight_1, weight_2, E)
    dtype = qkv.dtype.element_ty
    tl.store(grad_qkv + at, grad_1.to(dtype), mask=kept)
    tl.store(grad_qkv + at + HALF, grad_2.to(dtype), mask=kept)
    tl.store(grad_qkv + row + (H + G + group) * E + tl.arange(0, E)[None, :], of_keys[2].to(dtype), mask=kept)
    return of_1, of_2


@triton.jit
def _nothing(ROWS: tl.constexpr, E: tl.constexpr, HALF: tl.constexpr):
    zero = tl.zeros((ROWS, HALF), dtype=tl.float32)
    return zero, zero, tl.zeros((ROWS, E), dtype=tl.float32)


@triton.jit
def attention_backward(qkv, grad_out, grad_qkv, parts, query_weight, key_weight, cos, sin, starts, ends, scale, packs,
                        sequences, stride_outer, stride_sequence, stride_position, stride_ranges,
                        LENGTH: tl.constexpr, PACK: tl.constexpr, A: tl.constexpr, B: tl.constexpr, H: tl.constexpr,
                        G: tl.constexpr, E: tl.constexpr, HALF: tl.constexpr, ROTATE: tl.constexpr,
                        NORM_EPS: tl.constexpr):
    group, base, half = tl.program_id(1), _base(packs, stride_outer, stride_sequence, PACK), tl.arange(0, HALF)
    starts, ends = _ranges(starts, ends, packs, stride_ranges)
    qkv += base * ((H + 2 * G) * E)
    grad_qkv += base * ((H + 2 * G) * E)
    grad_out += base * (H * E)
    rows_a = _rows(0, packs, sequences, stride_sequence, stride_position, LENGTH, PACK, A)
    keys_a = _keys(qkv, rows_a[0], rows_a[2], rows_a[3], key_weight, cos, sin, group, H, G, E, HALF, ROTATE, NORM_EPS)
    of_a = _nothing(A, E, HALF)
    of_query = (tl.zeros((HALF,), dtype=tl.float32), tl.zeros((HALF,), dtype=tl.float32))
    if B > 0:
        rows_b = _rows(A, packs, sequences, stride_sequence, stride_position, LENGTH, PACK, B)
        keys_b = _keys(qkv, rows_b[0], rows_b[2], rows_b[3], key_weight, cos, sin, group, H, G, E, HALF, ROTATE,
                       NORM_EPS)
        of_a, of_b, of_query = _backward_rows(
            A, B, qkv, grad_out, grad_qkv, query_weight, cos, sin, starts, ends, scale, packs, sequences,
            stride_sequence, stride_position, group, keys_a, rows_a, keys_b, rows_b, of_a, _nothing(B, E, HALF),
            of_query, LENGTH, PACK, B, H, G, E, HALF, ROTATE, NORM_EPS)
    else:
        rows_b, keys_b, of_b = rows_a, keys_a, of_a
    of_a, of_b, of_query = _backward_rows(
        0, A, qkv, grad_out, grad_qkv, query_weight, cos, sin, starts, ends, scale, packs, sequences,
        stride_sequence, stride_position, group, keys_a, rows_a, keys_b, rows_b, of_a, of_b, of_query, LENGTH, PACK, B,
        H, G, E, HALF, ROTATE, NORM_EPS)
    of_1, of_2 = _store_keys(rows_a, of_a, qkv, grad_qkv, key_weight, cos, sin, group, H, G, E, HALF, ROTATE, NORM_EPS)
    if B > 0:
        more_1, more_2 = _store_keys(rows_b, of_b, qkv, grad_qkv, key_weight, cos, sin, group, H, G, E, HALF, ROTATE,
                                     NORM_EPS)
        of_1, of_2 = of_1 + more_1, of_2 + more_2
    at = parts + (tl.program_id(0) * G + group) * (2 * E) + half
    tl.store(at, of_query[0])
    tl.store(at + HALF, of_query[1])
    tl.store(at + E, of_1)
    tl.store(at + E + HALF, of_2)
