"""Attention through PyTorch's fused kernels, by what a group of tokens may see.

    short, on the GPU                  one kernel with QK-norm and rotary embedding (short_attention.py), segments too
    longer frames, in inference        the same over space (frame_attention.py)
    a frame or two beside a cache      the same over the ring, which takes them (ring_attention.py)
    nothing hidden, or plain causal    SDPA without a mask
    a mask, short or on the CPU        SDPA with a boolean mask (flex has no backward on the CPU)
    a mask on the GPU, long            flex attention with a block mask
    soft cap                           flex on the GPU, explicit products on the CPU (SDPA has no cap)
    short sequences on the CPU         explicit products: the fused backward takes several times as long

Every path computes the same function: tests/transformer/test_attention.py.
"""

import functools
import importlib.util
import math

import torch
from einops import rearrange
from jaxtyping import Int
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from wakedream.notation import FrameIds
from wakedream.transformer.layout import TokenLayout

FLEX_FROM = 512  # shorter sequences waste flex's 128-token blocks
FLEX_HEAD = 16  # numbers in a head: flex takes no fewer
SHORT = 128  # keys: the kernel takes no more; on the CPU explicit products make a demo step 80 ms, SDPA 170
LONG = 512  # tokens of a frame, in inference: PyTorch's kernels are as good from some length on
FEW = 2  # new frames that look at a ring together: a step's last frame and its next one

Spans = tuple[Tensor, Tensor]  # int32 (length) or (b length) each: position i sees positions [starts[i], ends[i])


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    mask: Tensor | None = None,
    causal: bool = False,
    soft_cap: float | None = None,
) -> Tensor:
    """softmax(cap(q k' / sqrt(e))) v for query (b h q e), key and value (b g k e), h a multiple of g.

    mask: bool, broadcastable to (b 1 q k), True where the query may look. causal: q = k, no mask.
    """
    assert not (causal and mask is not None), "causal attention takes no mask"
    assert not causal or query.shape[-2] == key.shape[-2], "SDPA's causal mask is aligned at the top left"
    grouped = query.shape[1] != key.shape[1]
    short = not query.is_cuda and key.shape[-2] <= SHORT
    if soft_cap is None and not short:
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=causal, enable_gqa=grouped
        )
    if causal:
        mask = _causal_mask(query.shape[-2], query.device)
    if query.is_cuda and soft_cap is not None:
        return _flex(query, key, value, mask, soft_cap)
    return _explicit(query, key, value, mask, soft_cap)


def attend_long(
    query: Tensor, key: Tensor, value: Tensor, block_mask: BlockMask, soft_cap: float | None = None
) -> Tensor:
    """As `attend`, on the GPU, for a mask that hides whole blocks."""
    score = functools.partial(_capped_score, soft_cap=soft_cap) if soft_cap else None
    return _flex_kernel()(
        query, key, value, score_mod=score, block_mask=block_mask, enable_gqa=query.shape[1] != key.shape[1]
    )


def frame_mask(
    query_ids: Int[Tensor, "b q"],
    key_ids: Int[Tensor, "b k"],
    window: int,
    query_segments: Int[Tensor, "b q"] | None = None,
    key_segments: Int[Tensor, "b k"] | None = None,
) -> Tensor:
    """bool (b q k): the key's frame is not later than the query's, within the window, in the same segment.

    Negative key ids are empty cache slots. Example with window 2, frames 0..3:

        1 0 0 0
        1 1 0 0
        0 1 1 0
        0 0 1 1
    """
    ahead = query_ids.unsqueeze(-1) - key_ids.unsqueeze(-2)
    mask = (ahead >= 0) & (ahead < window) & (key_ids >= 0).unsqueeze(-2)
    if query_segments is not None and key_segments is not None:
        mask = mask & (query_segments.unsqueeze(-1) == key_segments.unsqueeze(-2))
    return mask


def segment_ranges(segments: FrameIds, window: int) -> Spans:
    """int32 (b t) each: frame i may see frames starts[i] up to, not including, ends[i]: itself and those before it,
    within the window, back to where its run of equal numbers begins.

    A number that comes back later begins another segment. Example with window 2:

        segments   0 0 0 1 1 2      starts   0 0 1 3 3 5      ends   1 2 3 4 5 6
    """
    runs = (segments != segments.roll(1, dims=1)).cumsum(1)
    first = torch.searchsorted(runs, runs, out_int32=True)
    ends = torch.arange(1, segments.shape[1] + 1, dtype=torch.int32, device=segments.device)
    return torch.maximum(first, ends - window), ends.expand_as(first).contiguous()


def range_mask(starts: Tensor, ends: Tensor) -> Tensor:
    """bool (b t t): True where the row's frame may see the column's."""
    frame_ids = torch.arange(starts.shape[1], device=starts.device)
    return (frame_ids >= starts.unsqueeze(-1)) & (frame_ids < ends.unsqueeze(-1))


def token_mask(frames: Tensor, layout: TokenLayout, num_keys: int) -> Tensor:
    """bool (b (q s) (k n)): a frame mask (b q k) and the layout's rule inside every frame. num_keys: n tokens of a
    frame that is looked at; those beyond the layout's are not seen."""
    tokens = F.pad(layout.mask(frames.device), (0, num_keys - layout.num_tokens))
    full = rearrange(frames, "b q k -> b q 1 k 1") & rearrange(tokens, "i j -> 1 1 i 1 j")
    return rearrange(full, "b q i k j -> b (q i) (k j)")


@functools.cache  # without bound: a CUDA graph goes on reading them
@torch.inference_mode(False)  # training may read what evaluation made
def dense_block_mask(layout: TokenLayout, num_frames: int, window: int, device: torch.device) -> BlockMask:
    """flex's block mask for all tokens of `num_frames` frames; made once per shape."""
    tokens, size = layout.mask(device), layout.num_tokens

    return create_block_mask(  # a lambda: flex counts its arguments, which a checked function would hide
        lambda _batch, _head, q, k: (q // size >= k // size) & (q // size - k // size < window)
        & tokens[q % size, k % size], None, None, num_frames * size, num_frames * size, device=str(device))


def kernel_fits(tokens: Tensor, head_dim: int, soft_cap: float | None) -> bool:
    """Whether the kernels for attention take such tokens: on a GPU, with Triton, 16 bits, heads of 32, 64 or 128.

    Not float32, nor GPUs before Ampere, which multiply no bfloat16: without tensor cores the products are unrolled,
    which fills more registers than there are.
    """
    narrow = tokens.dtype in (torch.bfloat16, torch.float16)
    fits = tokens.is_cuda and narrow and head_dim in (32, 64, 128) and soft_cap is None
    return fits and _has_triton() and torch.cuda.get_device_capability(tokens.device) >= (8, 0)


@functools.cache  # without bound: a CUDA graph goes on reading them
@torch.inference_mode(False)
def kernel_ranges(layout: TokenLayout, num_frames: int, window: int, device: torch.device,
                  most: int = SHORT) -> dict[str, Spans]:
    """By kind of layer: the first position that each position sees, and the one after the last; int32 each.

    A kind is absent where the sequence is too long for the kernel or a range cannot say what is seen. most: tokens of a
    frame that are not too long.
    """
    ranges = {}
    spans = layout.ranges(device)
    if spans is not None and layout.num_tokens <= most:
        ranges["space"] = spans
    if num_frames <= SHORT:
        ends = torch.arange(1, num_frames + 1, dtype=torch.int32, device=device)
        ranges["time"] = ((ends - window).clamp_min(0), ends)
    return ranges


@functools.cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


def _causal_mask(length: int, device: torch.device) -> Tensor:
    return torch.ones(length, length, dtype=torch.bool, device=device).tril()


def _explicit(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, soft_cap: float | None) -> Tensor:
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = (tensor.repeat_interleave(groups, dim=1) for tensor in (key, value))
    logits = ((query / math.sqrt(query.shape[-1])) @ key.mT).float()
    if soft_cap is not None:
        logits = soft_cap * torch.tanh(logits / soft_cap)
    if mask is not None:
        logits = logits.masked_fill(~mask, -torch.inf)
    return logits.softmax(-1).to(value.dtype) @ value


def _flex(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, soft_cap: float) -> Tensor:
    if mask is not None:
        mask = mask.expand(query.shape[0], 1, query.shape[-2], key.shape[-2])

    def score(logit: Tensor, batch: Tensor, head: Tensor, q: Tensor, k: Tensor) -> Tensor:
        capped = soft_cap * torch.tanh(logit / soft_cap)
        return capped if mask is None else torch.where(mask[batch, 0, q, k], capped, -torch.inf)

    return _flex_kernel()(query, key, value, score_mod=score, enable_gqa=query.shape[1] != key.shape[1])


def _capped_score(
    logit: Tensor, batch: Tensor, head: Tensor, q: Tensor, k: Tensor, *, soft_cap: float
) -> Tensor:
    return soft_cap * torch.tanh(logit / soft_cap)


@functools.cache
def _compiled_flex():
    return torch.compile(flex_attention, dynamic=False)


def _flex_kernel():
    """Inside a compiled model flex is compiled with it; in eager code it needs its own compilation to be fused."""
    return flex_attention if torch.compiler.is_compiling() else _compiled_flex()
