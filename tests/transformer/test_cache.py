"""Laws of the ring cache: a forward for the next frame equals one over the whole past, at constant cost."""

from itertools import pairwise

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from wakedream.transformer.config import TransformerConfig
from wakedream.transformer.layout import TokenLayout
from wakedream.transformer.transformer import Transformer

EVERYTHING = ("patch", "latent", "register")
LAYOUT = TokenLayout(
    (("patch", 4), ("latent", 2), ("register", 1)),
    (("patch", ("patch",)), ("latent", EVERYTHING), ("register", EVERYTHING)),
)
PATTERNS = [("space", "time"), ("dense",), ("space", "dense", "time")]


def build(pattern=("space", "time"), window=3, depth=4, kv_heads=2, **options):
    torch.manual_seed(0)
    config = TransformerConfig(dim=32, depth=depth, heads=4, kv_heads=kv_heads, mlp_dim=64, pattern=pattern,
                               window=window, **options)
    return Transformer(config).eval().requires_grad_(False)


def tokens(frames=8, batch=2):
    return torch.randn(batch, frames, LAYOUT.num_tokens, 32, generator=torch.Generator().manual_seed(1))


def stream(model, x, cache, sizes=1):
    return torch.cat([model(part, LAYOUT, cache=cache) for part in x.split(sizes, dim=1)], dim=1)


def contents(cache):
    """Every tensor that a cache consists of, by name."""
    rings = {f"{name} of layer {index}": getattr(layer, name)
             for index, layer in cache.layers.items() for name in ("keys", "values")}
    return rings | {"frame_ids": cache.frame_ids, "next_ids": cache.next_ids, "segments": cache.segments}


@pytest.mark.parametrize("soft_cap", [None, 5.0])
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("sizes", [[1] * 11, [2, 1, 5, 3], [11], [1, 2, 1, 1, 4, 1, 1]])
def test_cached_equals_full_beyond_the_window(pattern, sizes, soft_cap):
    model, x = build(pattern, soft_cap=soft_cap), tokens(frames=11)
    ours = stream(model, x, model.init_cache(2, LAYOUT), sizes)
    torch.testing.assert_close(ours, model(x, LAYOUT), atol=1e-4, rtol=0)


@pytest.mark.parametrize("kv_heads", [1, 4])
@pytest.mark.parametrize("window", [1, 2, 5])
@pytest.mark.parametrize("before", range(6))
def test_one_by_one_equals_full_from_every_phase_of_the_ring(before, window, kv_heads):
    """`before` frames at once, then nine alone: each slot has been the first, each was overwritten."""
    model, x = build(window=window, kv_heads=kv_heads), tokens(frames=before + 9)
    sizes = [before] * (before > 0) + [1] * 9
    ours = stream(model, x, model.init_cache(2, LAYOUT), sizes)
    torch.testing.assert_close(ours, model(x, LAYOUT), atol=1e-4, rtol=0)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("start", [1_000_000, 10_000_000])
def test_frame_numbers_have_no_bound_and_only_their_differences_count(pattern, start):
    """Far keys are other keys, since they are cached as they were rotated; values and outputs are the same."""
    model, x = build(pattern), tokens(frames=6)  # a multiple of the window: both caches have the same slots
    start -= start % 3
    near, far = model.init_cache(2, LAYOUT), model.init_cache(2, LAYOUT)
    far.next_ids += start
    torch.testing.assert_close(stream(model, x, far), stream(model, x, near), atol=1e-4, rtol=0)
    assert torch.equal(far.frame_ids, near.frame_ids + start)
    for index, layer in near.layers.items():
        torch.testing.assert_close(far.layers[index].values, layer.values, atol=1e-4, rtol=0)
        assert (far.layers[index].keys - layer.keys).abs().max() > 0.1


@pytest.mark.parametrize("pattern", PATTERNS)
def test_what_is_cached_stays_as_it_is_until_its_slot_comes_round(pattern):
    model, x = build(pattern), tokens(frames=8)
    cache = model.init_cache(2, LAYOUT)
    for number, frame in enumerate(x.split(1, dim=1)):
        before = {name: tensor.clone() for name, tensor in contents(cache).items()}
        model(frame, LAYOUT, cache=cache)
        kept = torch.arange(3) != number % 3
        for name, tensor in contents(cache).items():
            if name != "next_ids":
                assert torch.equal(tensor[:, kept], before[name][:, kept]), (number, name)
    assert sorted(cache.frame_ids[0].tolist()) == [5, 6, 7]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_rows_reset_at_different_times_are_as_streams_of_their_own(pattern):
    model, x = build(pattern), tokens(frames=14, batch=3)
    resets = {2: [1], 4: [0, 1], 8: [2], 11: [0]}  # before which frame which rows start anew, at all phases
    cache = model.init_cache(3, LAYOUT)
    outputs = []
    for number, frame in enumerate(x.split(1, dim=1)):
        cache.reset(torch.tensor([row in resets.get(number, []) for row in range(3)]))
        outputs.append(model(frame, LAYOUT, cache=cache))
    ours = torch.cat(outputs, dim=1)
    for row in range(3):
        starts = [0, *(number for number, rows in resets.items() if row in rows), 14]
        for start, stop in pairwise(starts):
            alone = model(x[row : row + 1, start:stop], LAYOUT)
            torch.testing.assert_close(ours[row : row + 1, start:stop], alone, atol=1e-4, rtol=0)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("sizes", [1, 5])
def test_after_a_reset_of_all_rows_nothing_is_left(pattern, sizes):
    model, x = build(pattern), tokens(frames=8)
    cache = model.init_cache(2, LAYOUT)
    stream(model, x[:, 4:6], cache)
    cache.reset()
    assert cache.next_ids.tolist() == [0, 0]
    assert torch.equal(cache.frame_ids, model.init_cache(2, LAYOUT).frame_ids)
    torch.testing.assert_close(stream(model, x, cache, sizes), model(x, LAYOUT), atol=1e-4, rtol=0)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_segments_part_streams_as_they_part_clips(pattern):
    model, x = build(pattern), tokens(frames=7)
    segments = torch.tensor([[0, 0, 1, 1, 1, 2, 2], [3, 4, 4, 4, 4, 4, 5]])
    cache = model.init_cache(2, LAYOUT)
    ours = torch.cat([model(x[:, i : i + 1], LAYOUT, segments=segments[:, i : i + 1], cache=cache)
                      for i in range(7)], dim=1)
    torch.testing.assert_close(ours, model(x, LAYOUT, segments=segments), atol=1e-4, rtol=0)


def test_ten_thousand_frames_cost_no_memory_and_only_the_last_window_counts():
    """With one time layer exactly the last `window` frames matter, so a fresh forward over them is the truth."""
    model, bank = build(("time",), window=3, depth=1), tokens(frames=97, batch=2)
    cache = model.init_cache(2, LAYOUT)
    tensors = contents(cache)
    first = {name: (tensor.data_ptr(), tensor.shape, tensor.untyped_storage().nbytes())
             for name, tensor in tensors.items()}
    frames = (torch.arange(10_000) * 31) % 97
    for number, which in enumerate(frames):
        ours = model(bank[:, which : which + 1], LAYOUT, cache=cache)
        if number % 1000 == 999:
            last = bank[:, frames[number - 2 : number + 1]]
            torch.testing.assert_close(ours, model(last, LAYOUT)[:, -1:], atol=1e-4, rtol=0)
    assert cache.next_ids.tolist() == [10_000, 10_000]
    for name, tensor in contents(cache).items():
        assert tensor is tensors[name], f"{name} was replaced by another tensor"
        assert (tensor.data_ptr(), tensor.shape, tensor.untyped_storage().nbytes()) == first[name], name


class Operations(TorchDispatchMode):
    """Names of all operations; "mask" where a truth tensor picks elements, which inside waits for their number."""

    def __init__(self):
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        name = function.overloadpacket.__name__
        self.names.add(name)
        if name in ("index", "index_put", "index_put_"):
            self.names |= {"mask" for index in arguments[1] if index is not None and index.dtype == torch.bool}
        return function(*arguments, **(options or {}))


WAITING = {"nonzero", "_local_scalar_dense", "item", "masked_select", "is_nonzero", "mask"}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_no_operation_of_a_frame_or_a_reset_waits_or_depends_on_data(pattern):
    """What a CUDA graph could not record."""
    model, x = build(pattern), tokens(frames=1)
    cache, rows = model.init_cache(2, LAYOUT), torch.tensor([True, False])
    with Operations() as ours:
        model(x, LAYOUT, cache=cache)
        cache.reset(rows)
    assert not ours.names & WAITING, ours.names & WAITING
    assert "index_put_" in ours.names
    with Operations() as theirs:  # the check sees what it looks for
        cache.frame_ids[rows] = -1
        int(cache.next_ids[0])
    assert {"mask", "_local_scalar_dense"} <= theirs.names
