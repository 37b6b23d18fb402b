"""The Triton kernel is `attend` with QK-norm and rotary embedding, forward and backward; for longer frames, forward.

On a GPU: `pytest -m gpu`. Without one, where triton is installed:
`TRITON_INTERPRET=1 pytest tests/transformer/test_short_attention.py`.
"""

import pytest
import torch
from einops import rearrange
from interpreted import DEVICES, check_e4m3, error, runnable
from torch.nn import functional as F

from wakedream.transformer.attention import attend, frame_mask, segment_ranges
from wakedream.transformer.layout import TokenLayout
from wakedream.transformer.rope import rotary_angles, rotate

ALL = ("patch", "latent", "register")
ENCODER = (("patch", ("patch",)), ("latent", ALL), ("register", ALL))
DECODER = (("patch", ALL), ("latent", ("latent",)), ("register", ("latent", "register")))
CASES = {  # frames, (patches, latents, registers), what they see, heads, kv_heads, numbers in a head, window
    "one tile": (2, (16, 4, 2), ENCODER, 2, 2, 32, 4),
    "grouped": (3, (9, 4, 2), DECODER, 4, 2, 32, 2),
    "two parts": (2, (64, 16, 8), ENCODER, 2, 1, 64, 16),
    "two full parts": (2, (96, 24, 8), DECODER, 1, 1, 32, 16),
    "long": (37, (3, 1, 0), DECODER, 2, 2, 32, 5),
}
LONGEST = (100, (2, 0, 0), ENCODER, 2, 1, 32, 9)
RUNS = [*((name, axis) for name in CASES for axis in ("space", "time")),
        *((name, "segments") for name in ("grouped", "long", "longest"))]


def reference(qkv, query_weight, key_weight, angles, mask, heads, kv_heads, axis):
    """mask: bool (1 q k), or one for each sequence."""
    parts = rearrange(qkv, "b t s (h e) -> b t s h e", h=heads + 2 * kv_heads).split((heads, kv_heads, kv_heads), -2)
    query, key = (F.rms_norm(x, x.shape[-1:], weight, eps=1e-6)
                  for x, weight in zip(parts, (query_weight, key_weight), strict=False))
    if angles:
        query, key = rotate(query, *angles), rotate(key, *angles)
    there, back = {"space": ("b t s h e -> (b t) h s e", "(b t) h s e -> b t s (h e)"),
                   "time": ("b t s h e -> (b s) h t e", "(b s) h t e -> b t s (h e)")}[axis]
    query, key, value = (rearrange(x, there) for x in (query, key, parts[2]))
    return rearrange(attend(query, key, value, mask=mask[:, None]), back, b=qkv.shape[0])


def make(case, axis, device, dtype):
    frames, counts, sees, heads, kv_heads, size, window = (CASES | {"longest": LONGEST})[case]
    layout = TokenLayout(tuple(zip(ALL, counts, strict=True)), sees)
    generator = torch.Generator().manual_seed(0)
    rows = 3 if axis == "segments" else 2
    qkv = torch.randn(rows, frames, layout.num_tokens, (heads + 2 * kv_heads) * size, generator=generator)
    weights = [1 + 0.3 * torch.randn(size, generator=generator) for _ in range(2)]
    inputs = [x.to(device).requires_grad_() for x in (qkv.to(dtype), *weights)]
    if axis == "space":
        return inputs, None, layout.mask(device)[None], layout.ranges(device), heads, kv_heads
    ids = torch.arange(frames, device=device)
    angles = rotary_angles(ids[None], size)
    if axis == "segments":  # short clips, images, one long clip
        segments = torch.stack((ids // max(2, frames // 3), ids, torch.zeros_like(ids)))
        mask = frame_mask(ids.expand_as(segments), ids.expand_as(segments), window, segments, segments)
        return inputs, angles, mask.repeat_interleave(sum(counts), 0), segment_ranges(segments, window), heads, kv_heads
    starts, ends = (ids - window + 1).clamp_min(0).int(), (ids + 1).int()
    return inputs, angles, frame_mask(ids[None], ids[None], window), (starts, ends), heads, kv_heads


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("case", "axis"), RUNS)
def test_the_kernel_equals_its_plain_twin(case, axis, dtype, device):
    dtype = runnable(dtype, device)
    from wakedream.transformer.short_attention import short_attention

    inputs, angles, mask, (starts, ends), heads, kv_heads = make(case, axis, device, dtype)
    cos, sin = (x[0] for x in angles) if angles else (None, None)
    axis = "time" if axis == "segments" else axis
    out = short_attention(*inputs, cos, sin, starts, ends, heads, kv_heads, axis)
    exact = [x.detach().float().requires_grad_() for x in inputs]
    wanted = reference(*exact, angles, mask, heads, kv_heads, axis)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-2
    assert error(out, wanted) < tolerance
    along = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(1)).to(device)
    gradients = torch.autograd.grad(out, inputs, along.to(dtype))
    expected = torch.autograd.grad(wanted, exact, along)
    for name, ours, theirs in zip(("qkv", "query weight", "key weight"), gradients, expected, strict=True):
        assert ours.dtype == (dtype if name == "qkv" else torch.float32)
        assert error(ours, theirs) < 2 * tolerance, name


LONG = {  # as CASES, over space alone
    "encoder": (1, (130, 11, 0), ENCODER, 2, 1, 32, 1),
    "decoder": (2, (100, 40, 3), DECODER, 4, 2, 64, 1),
    "wide": (1, (64, 64, 2), ENCODER, 1, 1, 128, 1),
}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("case", LONG)
@torch.no_grad()
def test_the_kernel_for_longer_frames_equals_its_plain_twin(case, dtype, device, monkeypatch):
    dtype = runnable(dtype, device)
    from wakedream.transformer.frame_attention import frame_attention

    monkeypatch.setitem(CASES, case, LONG[case])
    inputs, angles, mask, (starts, ends), heads, kv_heads = make(case, "space", device, dtype)
    out = frame_attention(*inputs, starts, ends, heads, kv_heads)
    wanted = reference(*(x.float() for x in inputs), angles, mask, heads, kv_heads, "space")
    assert error(out, wanted) < (1e-5 if dtype == torch.float32 else 1e-2)


@pytest.mark.parametrize("device", DEVICES)
@torch.no_grad()
def test_the_length_of_a_key_means_nothing(device, monkeypatch):
    """Each is normalised by its own, however much longer than its neighbours."""
    dtype = runnable(torch.float32 if device == "cpu" else torch.bfloat16, device)
    from wakedream.transformer.frame_attention import frame_attention

    monkeypatch.setitem(CASES, "encoder", LONG["encoder"])
    (qkv, *weights), _, _, ranges, heads, kv_heads = make("encoder", "space", device, dtype)
    longer = qkv.clone()
    keys = longer[..., heads * len(weights[0]):(heads + kv_heads) * len(weights[0])]
    keys *= 2.0 ** (torch.arange(qkv.shape[2], device=device) % 9)[:, None]
    found, wanted = (frame_attention(x, *weights, *ranges, heads, kv_heads) for x in (longer, qkv))
    assert error(found, wanted) < 1e-3


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("unit", [2.0**-4, 2.0**-9])  # most are within the range; most are not
@torch.no_grad()
def test_the_kernel_for_longer_frames_casts_its_outputs_to_fp8(unit, device, monkeypatch):
    dtype = runnable(torch.float32 if device == "cpu" else torch.bfloat16, device)
    from wakedream.transformer.frame_attention import frame_attention

    monkeypatch.setitem(CASES, "decoder", LONG["decoder"])
    inputs, _, _, ranges, heads, kv_heads = make("decoder", "space", device, dtype)
    unit = torch.tensor(unit, device=device)
    plain = frame_attention(*inputs, *ranges, heads, kv_heads)
    check_e4m3(frame_attention(*inputs, *ranges, heads, kv_heads, unit), plain, unit)
    if device == "cuda":  # the interpreter makes a number of what is none
        assert frame_attention(inputs[0] * torch.nan, *inputs[1:], *ranges, heads, kv_heads, unit).isnan().all()
