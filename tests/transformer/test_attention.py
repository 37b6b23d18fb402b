"""Every attention path computes softmax(cap(q k')) v under the same mask."""

import math

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from wakedream.transformer.attention import (
    _flex,
    attend,
    dense_block_mask,
    frame_mask,
    kernel_fits,
    kernel_ranges,
    range_mask,
    segment_ranges,
    token_mask,
)
from wakedream.transformer.layout import TokenLayout

CPU = torch.device("cpu")
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def plain(query, key, value, mask=None, soft_cap=None):
    """The definition, one query at a time, in float64."""
    out = torch.zeros(query.shape, dtype=torch.float64)
    groups = query.shape[1] // key.shape[1]
    for b in range(query.shape[0]):
        for h in range(query.shape[1]):
            for q in range(query.shape[2]):
                logits = (key[b, h // groups].double() @ query[b, h, q].double()) / math.sqrt(query.shape[-1])
                if soft_cap:
                    logits = soft_cap * torch.tanh(logits / soft_cap)
                if mask is not None:
                    logits = logits.masked_fill(~mask[b, 0, q], -torch.inf)
                out[b, h, q] = logits.softmax(0) @ value[b, h // groups].double()
    return out.float()


def inputs(device="cpu", batch=2, heads=4, kv_heads=2, length=6, dim=16):
    generator = torch.Generator().manual_seed(0)
    shapes = ((batch, heads, length, dim), (batch, kv_heads, length, dim), (batch, kv_heads, length, dim))
    return [torch.randn(shape, generator=generator).to(device) * 2 for shape in shapes]


def random_mask(length=6, batch=2):
    mask = torch.rand(batch, 1, length, length, generator=torch.Generator().manual_seed(1)) < 0.5
    return mask | torch.eye(length, dtype=torch.bool)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("soft_cap", [None, 3.0])
@pytest.mark.parametrize("kind", ["open", "causal", "masked"])
def test_all_paths_agree_with_the_definition(device, soft_cap, kind):
    query, key, value = inputs(device)
    length = query.shape[2]
    masks = {
        "open": None,
        "causal": torch.ones(2, 1, length, length, dtype=torch.bool).tril(),
        "masked": random_mask(),
    }
    mask = masks[kind]
    given = mask.to(device) if kind == "masked" else None
    out = attend(query, key, value, mask=given, causal=kind == "causal", soft_cap=soft_cap)
    expected = plain(query.cpu(), key.cpu(), value.cpu(), mask, soft_cap)
    torch.testing.assert_close(out.cpu(), expected, atol=2e-5, rtol=1e-4)


def test_flex_agrees_with_the_definition():
    """On the CPU flex runs forward only, so this needs no GPU."""
    query, key, value = inputs()
    mask = random_mask()
    out = _flex(query, key, value, mask, 3.0)
    torch.testing.assert_close(out, plain(query, key, value, mask, 3.0), atol=2e-5, rtol=1e-4)


def test_the_cap_and_the_mask_matter():
    query, key, value = inputs()
    free = attend(query, key, value)
    assert (attend(query, key, value, soft_cap=1.0) - free).abs().max() > 0.01
    assert (attend(query, key, value, mask=random_mask()) - free).abs().max() > 0.01


def test_frame_mask_equals_its_worked_example():
    ids = torch.arange(4)[None]
    expected = torch.tensor([[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]], dtype=torch.bool)
    assert torch.equal(frame_mask(ids, ids, 2)[0], expected)
    segments = torch.tensor([[0, 0, 1, 1]])
    expected[2, 1] = False
    assert torch.equal(frame_mask(ids, ids, 2, segments, segments)[0], expected)
    empty = torch.tensor([[-1, 0, 1, 2]])
    assert not frame_mask(ids, empty, 8)[0, :, 0].any()


def test_segment_ranges_equal_their_worked_example():
    starts, ends = segment_ranges(torch.tensor([[0, 0, 0, 1, 1, 2]]), 2)
    assert starts.tolist() == [[0, 0, 1, 3, 3, 5]]
    assert ends.tolist() == [[1, 2, 3, 4, 5, 6]]


@pytest.mark.parametrize("window", [1, 3, 100])
def test_the_ranges_of_segments_say_what_their_mask_says(window):
    generator = torch.Generator().manual_seed(0)
    segments = (torch.rand(64, 20, generator=generator) < 0.3).long().cumsum(1) + torch.arange(64)[:, None] % 3
    segments = torch.cat((segments, torch.zeros(1, 20, dtype=torch.int64), torch.arange(20)[None]))
    ids = torch.arange(20).expand_as(segments)
    spans = segment_ranges(segments[1::2], window)
    assert all(part.dtype == torch.int32 and part.is_contiguous() for part in spans)
    expected = frame_mask(ids, ids, window, segments, segments)[1::2]
    assert torch.equal(range_mask(*spans), expected)


def test_a_number_that_comes_back_is_another_segment():
    starts, _ = segment_ranges(torch.tensor([[7, 7, 3, 7, 7], [0, 1, 0, 0, 0]]), 5)
    assert starts.tolist() == [[0, 0, 2, 3, 3], [0, 1, 2, 2, 2]]


def test_token_mask_joins_frames_and_layout():
    layout = TokenLayout((("a", 1), ("b", 1)), (("a", ("a",)), ("b", ("a", "b"))))
    mask = token_mask(frame_mask(torch.arange(2)[None], torch.arange(2)[None], 2), layout, layout.num_tokens)[0]
    expected = [[1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [1, 1, 1, 1]]
    assert torch.equal(mask, torch.tensor(expected, dtype=torch.bool))


def test_long_sequences_on_the_cpu_take_the_fused_path_and_agree():
    query, key, value = inputs(length=160)
    causal = torch.ones(2, 1, 160, 160, dtype=torch.bool).tril()
    torch.testing.assert_close(
        attend(query, key, value, causal=True), plain(query, key, value, causal), atol=2e-5, rtol=1e-4
    )


def test_tables_made_in_inference_mode_serve_training():
    """They are made once: evaluation may come first."""
    layout = TokenLayout((("patch", 130),), (("patch", ("patch",)),))  # one that no other test has
    with torch.inference_mode():
        ranges, blocks = kernel_ranges(layout, 7, 3, CPU), dense_block_mask(layout, 2, 3, CPU)
    assert "space" not in ranges  # too long
    for table in (*ranges["time"], blocks.kv_indices):
        assert not table.is_inference()
    assert [part.tolist() for part in ranges["time"]] == [[0, 0, 0, 1, 2, 3, 4], [1, 2, 3, 4, 5, 6, 7]]


@pytest.mark.parametrize(("device", "dtype", "head_dim", "soft_cap", "capability", "fits"), [
    ("cuda", torch.bfloat16, 64, None, (9, 0), True),
    ("cuda", torch.float16, 32, None, (8, 0), True),
    ("cpu", torch.bfloat16, 64, None, (9, 0), False),
    ("cuda", torch.float32, 64, None, (9, 0), False),
    ("cuda", torch.bfloat16, 48, None, (9, 0), False),
    ("cuda", torch.bfloat16, 64, 30.0, (9, 0), False),
    ("cuda", torch.bfloat16, 64, None, (7, 5), False),
])
def test_the_kernel_is_taken_where_it_fits(device, dtype, head_dim, soft_cap, capability, fits, monkeypatch):
    """On tensors that only claim to lie on a GPU."""
    monkeypatch.setattr("wakedream.transformer.attention._has_triton", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: capability)
    with FakeTensorMode():
        assert kernel_fits(torch.empty(1, 2, 3, head_dim, dtype=dtype, device=device), head_dim, soft_cap) is fits
