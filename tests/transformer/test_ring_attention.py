"""The ring's Triton kernel is what the plain path does: same outputs, same ring, whatever comes beside a cache.

On a GPU: `pytest -m gpu`. Without one, where triton is installed:
`TRITON_INTERPRET=1 pytest tests/transformer/test_ring_attention.py`.
"""

import copy

import pytest
import torch
from interpreted import DEVICES, check_e4m3, error, runnable

from wakedream.transformer.cache import LayerCache
from wakedream.transformer.config import TransformerConfig
from wakedream.transformer.layout import TokenLayout
from wakedream.transformer.rope import rotary_angles
from wakedream.transformer.transformer import Transformer

ROWS = 3  # streams
SHORTER = TokenLayout((("patch", 2),), (("patch", ("patch",)),))
LAYOUT = SHORTER.with_tokens((("agent", 1),))  # which frames may leave out
CASES = {  # heads, kv_heads, numbers in a head, window, frames that come first
    "one head": (1, 1, 32, 3, 2),
    "grouped": (8, 1, 32, 5, 7),
    "a short past": (4, 2, 64, 16, 1),
    "three share a key": (3, 1, 32, 1, 1),
    "blocks and a rest": (8, 1, 32, 70, 90),
    "wide": (1, 1, 128, 5, 4),
}
SOME = [True, False, True]


def build(heads, kv_heads, size, window):
    torch.manual_seed(0)
    config = TransformerConfig(dim=heads * size, depth=1, heads=heads, kv_heads=kv_heads, mlp_dim=16,
                               pattern=("time",), window=window)
    model = Transformer(config).eval().requires_grad_(False)
    model.layers[0].attention.out.weight *= 10  # else what attention finds is too little to tell
    for norm in (model.layers[0].attention.query_norm, model.layers[0].attention.key_norm):
        norm.weight.copy_(1 + 0.3 * torch.randn(size))
    return model


def looks(model, cache, frames, device, dtype):
    """What a stream goes through after `frames` frames: outputs of each look."""
    generator = torch.Generator().manual_seed(1)
    width = model.config.dim

    def look(count, layout=LAYOUT, **options):
        x = torch.randn(ROWS, count, layout.num_tokens, width, generator=generator).to(device, dtype)
        return model(x, layout, cache=cache, **options)

    def rows(given):
        return torch.tensor(given, device=device)

    yield look(frames)
    yield look(1)
    cache.reset(rows([False, True, False]))  # from now on at another phase
    yield look(1, SHORTER, committed=0)  # again and again
    yield look(1, SHORTER, committed=0)
    yield look(1)
    yield look(1, rows=rows(SOME))
    yield look(2)
    goes, before = rows(SOME), cache.next_ids.unsqueeze(1)  # a frame that waits in some rows, beside the next one
    segments = torch.stack([(~goes).long(), torch.zeros_like(goes, dtype=torch.int64)], dim=1)
    numbers = torch.cat([before, before + goes.unsqueeze(1)], dim=1)
    yield look(2, SHORTER, segments=segments, committed=1, rows=goes, frame_ids=numbers)
    yield look(1, SHORTER, committed=0, frame_ids=numbers[:, 1:])
    yield look(2, committed=0)
    yield look(2, segments=rows([[0, 1], [0, 0], [2, 2]]))
    yield look(1, segments=rows([[1], [1], [2]]))
    for _ in range(2):
        yield look(1, segments=rows([[1], [3], [2]]))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_the_kernel_equals_the_plain_path_and_leaves_the_same_ring(case, dtype, device, monkeypatch):
    if device == "cpu" and dtype == torch.bfloat16 and case != "grouped":
        pytest.skip("the interpreter takes its time")
    dtype = runnable(dtype, device)
    *shape, frames = CASES[case]
    plain = build(*shape).to(device)
    quick = copy.deepcopy(plain).to(dtype)
    caches = [model.init_cache(ROWS, LAYOUT) for model in (plain, quick)]
    for cache in caches:
        cache.segments.zero_()
    expected = looks(plain, caches[0], frames, device, torch.float32)
    found = looks(quick, caches[1], frames, device, dtype)
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    for number in range(20):
        with monkeypatch.context() as patch:
            patch.setattr("wakedream.transformer.transformer.kernel_fits", lambda *_: False)
            theirs = next(expected, None)
        with monkeypatch.context() as patch:
            if device == "cpu" and number > 0:  # many frames at once are not for this kernel
                patch.setattr("wakedream.transformer.transformer.kernel_fits", lambda *_: True)
            ours = next(found, None)
        if theirs is None:
            break
        assert error(ours, theirs) < tolerance, number
        for mine, other in zip(*(cache.position for cache in caches), strict=True):
            assert torch.equal(mine, other)
        for name in ("keys", "values"):
            mine, other = (getattr(cache.layers[0], name) for cache in caches)
            assert error(mine, other) < tolerance, (number, name)
    assert number > 11


@pytest.mark.parametrize("device", DEVICES)
@torch.no_grad()
def test_what_lies_in_an_empty_slot_is_not_read(device, monkeypatch):
    pytest.importorskip("triton")
    if device == "cpu":
        monkeypatch.setattr("wakedream.transformer.transformer.kernel_fits", lambda *_: True)
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    model = build(1, 1, 32, 5).to(device, dtype)
    clean, spoiled = (model.init_cache(1, LAYOUT) for _ in range(2))
    layer: LayerCache = spoiled.layers[0]
    layer.keys.fill_(torch.nan)
    layer.values.fill_(torch.inf)
    for seed in range(2):
        x = torch.randn(1, 1, LAYOUT.num_tokens, 32, generator=torch.Generator().manual_seed(seed)).to(device, dtype)
        assert torch.equal(model(x, LAYOUT, cache=spoiled), model(x, LAYOUT, cache=clean))


@pytest.mark.parametrize("device", DEVICES)
@torch.no_grad()
def test_the_kernel_casts_its_outputs_to_fp8(device):
    """And leaves the same ring."""
    dtype = runnable(torch.float32 if device == "cpu" else torch.bfloat16, device)
    from wakedream.transformer.ring_attention import ring_attention

    torch.manual_seed(0)
    qkv, ring = torch.randn(2, 2, 3, 4 * 32), torch.randn(2, 2, 5, 3, 1, 32)
    cos, sin = (part.expand(2, -1, -1).contiguous().to(device) for part in rotary_angles(torch.tensor([[7, 8]]), 32))
    held = torch.tensor([5, 6, 2, 3, 4], device=device).expand(2, -1)
    new, clip = torch.tensor([7, 8], device=device).expand(2, -1), torch.zeros(2, 5, dtype=torch.int64, device=device)
    unit, found = torch.tensor(2.0**-8, device=device), []
    for given in (None, unit):
        keys, values = ring.to(device, dtype).clone()
        out = ring_attention(qkv.to(device, dtype), *torch.ones(2, 32, device=device, dtype=dtype), cos, sin, keys,
                             values, held, clip, new, clip[:, :2], 1, 2, 1, given)
        found.append((out, keys, values))
    (plain, *rings), (cast, *others) = found
    check_e4m3(cast, plain, unit)
    assert all(map(torch.equal, rings, others))
