"""The laws of the shared backbone, for space/time and for dense layers."""

import copy

import pytest
import torch
from interpreted import DEVICES

from wakedream.errors import ConfigError
from wakedream.model.frozen import frozen
from wakedream.transformer.config import TransformerConfig
from wakedream.transformer.layout import TokenLayout
from wakedream.transformer.rope import rotary_angles
from wakedream.transformer.transformer import Transformer

EVERYTHING = ("patch", "latent", "register")
LAYOUT = TokenLayout(
    (("patch", 4), ("latent", 2), ("register", 1)),
    (("patch", ("patch",)), ("latent", EVERYTHING), ("register", EVERYTHING)),
)
PATTERNS = [("space", "time"), ("dense",), ("space", "dense", "time")]


def build(pattern=("space", "time"), window=3, depth=4, heads=4, kv_heads=2, **options):
    torch.manual_seed(0)
    config = TransformerConfig(dim=32, depth=depth, heads=heads, kv_heads=kv_heads, mlp_dim=64, pattern=pattern,
                               window=window, **options)
    return Transformer(config).eval()


def tokens(frames=8, batch=2):
    return torch.randn(batch, frames, LAYOUT.num_tokens, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("window", [3, 16])
def test_the_future_cannot_touch_the_past_and_the_past_touches_the_future(pattern, window):
    model, x = build(pattern, window), tokens()
    y = model(x, LAYOUT)
    changed = x.clone()
    changed[:, 4] += 1
    moved = (model(changed, LAYOUT) - y).abs().amax(dim=(0, 2, 3))
    assert moved[:4].max() == 0
    assert moved[4:6].min() > 1e-4


@pytest.mark.parametrize("pattern", [("space", "time"), ("dense",)])
def test_the_window_ends(pattern):
    """One layer over time with a window of 3: frame 0 reaches frame 2 and no further."""
    depth = len(pattern)
    model, x = build(pattern, window=3, depth=depth), tokens()
    changed = x.clone()
    changed[:, 0] += 1
    moved = (model(changed, LAYOUT) - model(x, LAYOUT)).abs().amax(dim=(0, 2, 3))
    assert moved[:3].min() > 1e-5
    assert moved[3:].max() == 0


@pytest.mark.parametrize("pattern", PATTERNS)
def test_modalities_see_only_what_the_layout_allows(pattern):
    model, x = build(pattern), tokens()
    changed = x.clone()
    changed[:, :, 4:] += 1  # latents and registers
    moved = (model(changed, LAYOUT) - model(x, LAYOUT)).abs()
    assert moved[:, :, :4].max() == 0
    assert moved[:, :, 4:].min(dim=-1).values.max() > 0
    changed = x.clone()
    changed[:, :, 0] += 1
    assert (model(changed, LAYOUT) - model(x, LAYOUT))[:, :, 4:].abs().amax(-1).min() > 1e-5


@pytest.mark.parametrize("pattern", PATTERNS)
def test_segments_are_as_separate_clips(pattern):
    model, x = build(pattern, window=16), tokens(frames=6)
    joined = model(x, LAYOUT, segments=torch.tensor([[0, 0, 1, 1, 1, 2], [0, 1, 2, 3, 4, 5]]))
    for row, start, stop in ((0, 0, 2), (0, 2, 5), (0, 5, 6), (1, 3, 4)):
        alone = model(x[row : row + 1, start:stop], LAYOUT)
        torch.testing.assert_close(joined[row : row + 1, start:stop], alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_number_that_comes_back_is_another_segment(pattern):
    model, x = build(pattern, window=16), tokens(frames=5)
    twice, apart = torch.tensor([[7, 7, 3, 7, 7]] * 2), torch.tensor([[0, 0, 1, 2, 2]] * 2)
    assert torch.equal(model(x, LAYOUT, segments=twice), model(x, LAYOUT, segments=apart))


@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_host_reads_no_segments(pattern):
    """A meta tensor has nothing to read, so the GPU's queue need not be waited for."""
    model, x = build(pattern).to("meta"), tokens().to("meta")
    segments = torch.empty(x.shape[:2], dtype=torch.int64, device="meta")
    assert model(x, LAYOUT, segments=segments).shape == x.shape


def test_rotation_stays_exact_for_any_frame_number():
    near, far = (torch.tensor([[start, start + 3]]) for start in (0, 10_000_000))
    (cos, sin), (far_cos, far_sin) = rotary_angles(near, 16), rotary_angles(far, 16)
    turn = cos[:, 1] * cos[:, 0] + sin[:, 1] * sin[:, 0]
    far_turn = far_cos[:, 1] * far_cos[:, 0] + far_sin[:, 1] * far_sin[:, 0]
    torch.testing.assert_close(turn, far_turn, atol=1e-6, rtol=0)


def test_a_pattern_that_crosses_no_frames_is_refused():
    with pytest.raises(ConfigError, match="nothing crosses frames"):
        build(("space", "space", "space", "time"), depth=3)


@pytest.mark.parametrize("keep", [None, ("latent",), ("patch", "register")])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_without_gradients_the_numbers_are_the_same(pattern, keep):
    """There a layer leaves its last sum to the next one; with gradients one tensor alone goes from layer to layer."""
    model, x = build(pattern), tokens()
    passed = []
    for layer in model.layers:
        layer.register_forward_hook(lambda _layer, _given, made: passed.append(made[1] is None))
    taught = model(x, LAYOUT, keep=keep)
    with torch.no_grad():
        assert torch.equal(model(x, LAYOUT, keep=keep), taught)
    assert passed == [True] * 4 + [False] * 4


@pytest.mark.compile
@pytest.mark.parametrize("pattern", PATTERNS)
def test_compiles_without_a_graph_break(pattern):
    """Layer by layer, as training compiles: layers of a kind share their code."""
    model, x = build(pattern), tokens()
    expected = model(x, LAYOUT, keep=("latent",))
    torch._dynamo.reset()  # the cases before it count towards the limit of recompilations
    for layer in model.layers:
        layer.compile(fullgraph=True, dynamic=False)
    out = model(x, LAYOUT, keep=("latent",))
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=0)
    with torch.no_grad():
        torch.testing.assert_close(model(x, LAYOUT, keep=("latent",)), expected, atol=1e-5, rtol=0)
    out.square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("pattern", PATTERNS)
def test_layers_draw_no_random_numbers(pattern):
    """So they may be computed again without a record of what they drew (training.distributed.recomputed)."""
    model, before = build(pattern).train(), torch.get_rng_state()
    model(tokens(), LAYOUT)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_outputs_of_one_modality_are_those_of_all(pattern):
    model, x = build(pattern), tokens()
    for name, span in LAYOUT.spans.items():
        torch.testing.assert_close(model(x, LAYOUT, keep=(name,)), model(x, LAYOUT)[:, :, span], atol=1e-6, rtol=0)


@pytest.mark.gpu
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("frames", [8, 80])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_gpu_gives_the_same_outputs_and_gradients(pattern, frames, compiled):
    """80 frames are long enough for flex attention's block mask, 8 are not."""
    cpu = build(pattern, heads=1, kv_heads=1)  # heads of 32 numbers, the fewest that the kernel takes
    gpu, x = copy.deepcopy(cpu).cuda(), tokens(frames)
    if compiled:
        torch._dynamo.reset()  # the cases before it count towards the limit of recompilations
        for layer in gpu.layers:
            layer.compile(fullgraph=True, dynamic=False)
    ours, theirs = cpu(x, LAYOUT), gpu(x.cuda(), LAYOUT)
    torch.testing.assert_close(theirs.cpu(), ours, atol=1e-3, rtol=1e-3)
    wanted = torch.randn(ours.shape, generator=torch.Generator().manual_seed(2))
    (ours * wanted).sum().backward()
    (theirs.cpu() * wanted).sum().backward()
    for (name, weight), other in zip(cpu.named_parameters(), gpu.parameters(), strict=True):
        error = (other.grad.cpu() - weight.grad).norm() / weight.grad.norm()
        assert error < 1e-3, (name, error)


@pytest.mark.gpu
def test_in_mixed_precision_a_gpu_takes_the_kernel():
    model, x = build(PATTERNS[0], heads=1, kv_heads=1).cuda(), tokens(8).cuda()
    wanted = model(x, LAYOUT)
    assert not model._scope(x, LAYOUT, None, None).ranges
    with torch.autocast("cuda", torch.bfloat16):
        assert set(model._scope(x.bfloat16(), LAYOUT, None, None).ranges) == {"space", "time"}
        ours = model(x, LAYOUT).float()
    assert (ours - wanted).norm() < 0.03 * wanted.norm()


def packed(frames, device):
    """Rows of short clips, of images, and of one clip."""
    ids = torch.arange(frames, device=device)
    return torch.stack((ids // 5, ids, torch.zeros_like(ids)))


def outputs_and_gradients(model, x, **options):
    model.zero_grad()
    out = model(x, LAYOUT, **options)
    wanted = torch.randn(out.shape, generator=torch.Generator().manual_seed(2)).to(x.device)
    (out.float() * wanted).sum().backward()
    return [out.detach().float(), *(parameter.grad.clone() for parameter in model.parameters())]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("frames", "window"), [(8, 3), (8, 16), (40, 16)])
@pytest.mark.parametrize("pattern", [("space", "time"), ("space", "dense", "time")])
def test_the_kernel_takes_segments(pattern, frames, window, device, monkeypatch):
    """In mixed precision on a GPU, in float32 in Triton's interpreter; the twin is float32 with a mask."""
    pytest.importorskip("triton")
    model = build(pattern, window, depth=len(pattern), heads=1, kv_heads=1).to(device)
    x, segments = tokens(frames, 3).to(device), packed(frames, device)
    with torch.no_grad():
        for layer in model.layers:
            layer.attention.out.weight *= 10  # else what attention finds is too little to tell
    exact = outputs_and_gradients(model, x, segments=segments)
    if device == "cpu":
        monkeypatch.setattr("wakedream.transformer.transformer.kernel_fits", lambda *_: True)
    with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
        seen = model._scope(x.to(torch.bfloat16 if device == "cuda" else x.dtype), LAYOUT, segments, None).ranges
        assert seen["time"][0].shape == segments.shape
        ours = outputs_and_gradients(model, x, segments=segments)
    limits = (0.02, 0.1) if device == "cuda" else (1e-5, 1e-4)
    names = ("output", *(name for name, _ in model.named_parameters()))
    for name, mine, theirs in zip(names, ours, exact, strict=True):
        error = (mine - theirs).norm() / theirs.norm()
        assert error < limits[name != "output"], (name, error)


def test_beside_a_cache_the_kernels_are_those_for_inference(monkeypatch):
    """Over the ring for few frames, without a mask of frames."""
    monkeypatch.setattr("wakedream.transformer.transformer.kernel_fits", lambda *_: True)
    model, x, segments = build(), tokens(8, 3), packed(8, "cpu")
    cache = model.init_cache(3, LAYOUT)

    def scope(frames, given, arrives):
        part = None if given is None else given[:, :frames]
        return model._scope(x[:, :frames], LAYOUT, part, cache.expect(frames, part) if arrives else None)

    for given in (None, segments):
        assert set(scope(8, given, False).ranges) == {"space", "time"}
        for frames in (1, 2, 8):
            taught = scope(frames, given, True)
            assert set(taught.ranges) == {"space"} and not taught.ring and taught.frames is not None
            with torch.no_grad():
                seen = scope(frames, given, True)
            assert set(seen.ranges) == {"space"} and seen.ring is (frames < 8) and (seen.frames is None) is seen.ring


def test_frames_of_many_tokens_take_a_kernel_in_inference(monkeypatch):
    monkeypatch.setattr("wakedream.transformer.transformer.kernel_fits", lambda *_: True)
    model = build()
    for count, kinds in ((128, {"space", "time"}), (129, {"time"}), (513, {"time"})):
        layout, x = TokenLayout((("patch", count),), (("patch", ("patch",)),)), torch.empty(1, 2, count, 32)
        assert set(model._scope(x, layout, None, None).ranges) == kinds
        with torch.no_grad():
            assert ("space" in model._scope(x, layout, None, None).ranges) is (count <= 512)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("pattern", [("space", "time"), ("space", "dense", "time")])
@torch.no_grad()
def test_a_stream_through_the_kernels_is_the_whole_clip(pattern, device, monkeypatch):
    """Frame by frame, and two of them together, beyond the window."""
    pytest.importorskip("triton")
    model, x = build(pattern, window=3, depth=len(pattern), heads=1, kv_heads=1).to(device), tokens(6, 2).to(device)
    for layer in model.layers:
        layer.attention.out.weight *= 10
    exact = model(x, LAYOUT)
    if device == "cpu":
        monkeypatch.setattr("wakedream.transformer.transformer.kernel_fits", lambda *_: True)
    with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
        cache = model.init_cache(2, LAYOUT)
        ours = torch.cat([model(part, LAYOUT, cache=cache) for part in x.split([1, 2, 1, 1, 1], dim=1)], dim=1)
    assert (ours.float() - exact).norm() < (0.02 if device == "cuda" else 1e-5) * exact.norm()


@pytest.mark.gpu
@torch.no_grad()
def test_compiled_layers_and_a_cuda_graph_take_the_kernels():
    """The same stream, one frame or two at a time, as it is and recorded."""
    layout = TokenLayout((("patch", 140), ("latent", 5)), (("patch", ("patch",)), ("latent", ("patch", "latent"))))
    model = build(window=5, heads=1, kv_heads=1).cuda().bfloat16()
    x = torch.randn(9, 2, 2, 145, 32, generator=torch.Generator().manual_seed(1)).cuda().bfloat16()
    cache = model.init_cache(2, layout)
    expected = [model(part, layout, cache=cache, committed=1) for part in x]
    torch._dynamo.reset()
    for layer in model.layers:
        layer.compile(fullgraph=True, dynamic=False)
    cache, given = model.init_cache(2, layout), x[0].clone()
    before = [tensor.clone() for tensor in cache.position]
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(2):
            model(given, layout, cache=cache, committed=1)
            for tensor, value in zip(cache.position, before, strict=True):
                tensor.copy_(value)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = model(given, layout, cache=cache, committed=1)
    for part, wanted in zip(x, expected, strict=True):
        given.copy_(part)
        graph.replay()
        assert (out - wanted).float().norm() < 0.03 * wanted.float().norm()


@pytest.mark.compile
@pytest.mark.parametrize("precision", [None, "fp8"])
@pytest.mark.parametrize("frames", [1, 2])
@torch.no_grad()
def test_layers_with_the_kernels_compile_without_a_graph_break(frames, precision, monkeypatch):
    """Traced alone: to run them takes a GPU."""
    pytest.importorskip("triton")
    monkeypatch.setattr("wakedream.transformer.transformer.kernel_fits", lambda *_: True)
    model, layout = frozen(build(), precision), TokenLayout((("patch", 140),), (("patch", ("patch",)),))
    x = torch.randn(2, frames, 140, 32, dtype=model.norm.weight.dtype)
    cache = model.init_cache(2, layout)
    torch._dynamo.reset()
    scope = model._scope(x, layout, None, cache.expect(frames))
    for index, name in enumerate(("frame_attention", "ring_attention")):
        traced = []

        def backend(graph, _inputs, traced=traced):
            traced.extend(str(node.target) for node in graph.graph.nodes)
            return lambda *_: (x, x)

        layer = torch.compile(model.layers[index], fullgraph=True, dynamic=False, backend=backend)
        layer(x, scope, held=cache.layers.get(index), pending=x if index else None)
        assert any(name in one for one in traced), traced


@pytest.mark.gpu
@torch.inference_mode()
def test_a_cuda_graph_takes_other_segments_without_being_recorded_again():
    model, x, segments = build(heads=1, kv_heads=1).cuda(), tokens(20, 3).cuda(), packed(20, "cuda")

    def look(where):
        with torch.autocast("cuda", torch.bfloat16, cache_enabled=False):
            return model(x, LAYOUT, segments=where)

    given = segments.clone()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        look(given)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = look(given)
    given.copy_(segments.flip(0))
    graph.replay()
    expected = look(segments.flip(0))
    torch.testing.assert_close(out, expected)
    assert not torch.equal(expected, look(segments))
