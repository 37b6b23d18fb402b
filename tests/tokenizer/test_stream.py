"""Laws of streaming: one frame at a time equals the whole clip, for each row by itself."""

import dataclasses

import pytest
import torch
from small import SMALL

from wakedream.errors import ConfigError
from wakedream.tokenizer.tokenizer import Tokenizer

KINDS = {
    "factorised": SMALL,
    "grouped": dataclasses.replace(SMALL, kv_heads=2),
    "mixed": dataclasses.replace(SMALL, encoder_depth=3, decoder_depth=3, pattern=("space", "dense", "time")),
    "shared": dataclasses.replace(SMALL, pattern=("dense",), shared=True),
}
# heads of 32 numbers, which the short-attention kernel takes; the others' are of 8
GPU_KINDS = KINDS | {"kernel": dataclasses.replace(SMALL, dim=64, heads=2, encoder_depth=4)}


def build(kind="factorised", device="cpu"):
    torch.manual_seed(0)
    return Tokenizer(GPU_KINDS[kind]).eval().to(device)


def video(frames=8, batch=2):
    return torch.rand(batch, frames, 3, 20, 24, generator=torch.Generator().manual_seed(1))


def encode(stream, frames):
    return torch.stack([stream.encode(frame) for frame in frames.unbind(1)], dim=1)


def decode(stream, latents):
    return torch.stack([stream.decode(latent) for latent in latents.unbind(1)], dim=1)


def whole(model, x):
    with torch.no_grad():
        latents = model.encode(x)
        return latents, model.decode(latents)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_equals_the_whole_clip(kind, batch):
    model, x = build(kind), video(frames=11, batch=batch)  # the window is 3
    latents, frames = whole(model, x)
    stream = model.stream(batch)
    torch.testing.assert_close(encode(stream, x), latents, atol=1e-4, rtol=0)
    torch.testing.assert_close(decode(stream, latents), frames, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_that_starts_anew_is_a_fresh_stream_and_the_others_go_on(kind):
    check_resets(build(kind), video(), 1e-4)


def check_resets(model, x, tolerance, **options):
    stream = model.stream(2, **options)
    latents, frames = [], []
    for number, frame in enumerate(x.unbind(1)):
        if number in (2, 7):
            stream.reset(torch.tensor([number == 2, number == 7]))
        latents.append(stream.encode(frame))
        frames.append(stream.decode(latents[-1]))
    ours = torch.stack(latents, dim=1), torch.stack(frames, dim=1)
    for row, start, stop in ((0, 0, 2), (0, 2, 8), (1, 0, 7), (1, 7, 8)):
        for mine, alone in zip(ours, whole(model, x[row : row + 1, start:stop]), strict=True):
            torch.testing.assert_close(mine[row : row + 1, start:stop], alone, atol=tolerance, rtol=0)
    stream.reset()
    torch.testing.assert_close(encode(stream, x), whole(model, x)[0], atol=tolerance, rtol=0)


def test_encoder_and_decoder_have_pasts_of_their_own():
    model, x = build(), video()
    latents, frames = whole(model, x)
    stream = model.stream(2)
    encode(stream, x[:, :5])
    torch.testing.assert_close(decode(stream, latents), frames, atol=1e-4, rtol=0)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_bytes_and_floats_are_the_same_frames(precision):
    model, x = build(), (video() * 255).to(torch.uint8)
    ours = encode(model.stream(2, precision=precision), x)
    theirs = encode(model.stream(2, precision=precision), x.float() / 255)
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("precision", "times"), [("bf16", 1), ("fp8", 5)])
def test_bf16_and_fp8_are_close_and_come_out_as_float32(kind, precision, times):
    check_rounded(build(kind), video(), times, precision=precision)


def check_rounded(model, x, times=1, **options):
    latents, frames = whole(model, x)
    stream = model.stream(2, **options)
    weights = {name: weight.dtype for name, weight in stream.tokenizer.named_parameters()}
    assert weights.pop("to_patch.weight") == torch.float32
    assert set(weights.values()) == {torch.bfloat16}
    for ours, theirs in ((encode(stream, x), latents), (decode(stream, latents), frames)):
        assert ours.dtype == torch.float32
        error = (ours - theirs).abs()
        assert 0 < error.max() < 0.1 * times, error.max()
        assert error.mean() < 0.01 * times, error.mean()


def test_a_tokenizer_of_bf16_weights_streams():
    model, x = build(), video()
    latents = whole(model, x)[0]
    ours = encode(model.bfloat16().stream(2), x)
    assert (ours - latents).abs().mean() < 0.01
    assert decode(model.stream(2), ours).dtype == torch.float32


def test_a_stream_leaves_the_tokenizer_as_it_is_and_keeps_its_own_weights():
    model, x = build().train(), video()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    latents = whole(model, x)[0]
    stream = model.stream(2, precision="bf16")
    own = model.stream(2)
    assert model.training
    assert all(weight.requires_grad for weight in model.parameters())
    for name, tensor in model.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, before[name])
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
    torch.testing.assert_close(encode(own, x), latents, atol=1e-4, rtol=0)
    assert encode(stream, x).abs().max() > 0.1
    assert encode(model.stream(2), x).abs().max() == 0, "a new stream does not know the weights as they are now"


def test_streams_share_a_copy_and_each_goes_on_where_it_was():
    """Two that take turns in the same rings are as two that are alone; a third goes on from another's state."""
    model, x = build(), video()
    one, other = model.stream(2), model.stream(2)
    assert one.tokenizer is other.tokenizer
    mine, theirs = [], []
    for frame in x.unbind(1):
        mine.append(one.encode(frame))
        theirs.append(other.encode(1 - frame))
        state = one.state()
    for ours, seen in ((mine, x), (theirs, 1 - x)):
        torch.testing.assert_close(torch.stack(ours, dim=1), whole(model, seen)[0], atol=1e-4, rtol=0)
    third = model.stream(2)
    third.load(state)
    assert torch.equal(third.encode(x[:, 0]), one.encode(x[:, 0]))


def test_joined_weights_are_kept_once():
    """Frozen layers' q, k, v and gate, up are parts of one matrix each."""
    for name, buffer in build().stream().tokenizer.named_buffers():
        assert name.endswith("joined.weight"), name
        parent = name.removesuffix(".joined.weight")
        parts = ("query", "key", "value") if parent.endswith("attention") else ("gate", "up")
        model = build().stream().tokenizer
        module, joined = model.get_submodule(parent), model.get_buffer(name)
        assert joined.shape == buffer.shape
        for part in parts:
            weight = getattr(module, part).weight
            assert weight.untyped_storage().data_ptr() == joined.untyped_storage().data_ptr()


def test_autocast_around_a_stream_changes_nothing():
    model, x = build(), video()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = encode(model.stream(2), x)
    torch.testing.assert_close(ours, whole(model, x)[0], atol=1e-4, rtol=0)


@pytest.mark.parametrize("modes", [(True, False), (False, True)])
def test_inference_mode_may_come_and_go(modes):
    """Around the making of a stream or around its frames: what is changed in place belongs to no mode."""
    model, x = build(), video()
    with torch.inference_mode(modes[0]):
        stream = model.stream(2)
    outputs = []
    for number, frame in enumerate(x.unbind(1)):
        with torch.inference_mode(modes[number % 2]):
            outputs.append(stream.encode(frame))
    torch.testing.assert_close(torch.stack(outputs, dim=1), whole(model, x)[0], atol=1e-4, rtol=0)


def test_memory_is_constant():
    model, x = build(), video()
    stream = model.stream(2)
    tensors = [tensor for cache in (stream._seat.encoding, stream._seat.decoding)
               for tensor in (*cache.position, *(part for layer in cache.layers.values()
                                                 for part in (layer.keys, layer.values)))]
    size = [(tensor.data_ptr(), tensor.untyped_storage().nbytes()) for tensor in tensors]
    window, tokens = 3, 9 + 4 + 4
    assert sum(tensor.nbytes for tensor in tensors if tensor.ndim == 5) == 2 * 2 * 2 * window * tokens * 32 * 4
    for _ in range(4):
        decode(stream, encode(stream, x))
    assert [(tensor.data_ptr(), tensor.untyped_storage().nbytes()) for tensor in tensors] == size


def test_what_does_not_fit_says_what_was_expected():
    model = build()
    with pytest.raises(ConfigError, match="graph=True records a CUDA graph, but the tokenizer is on 'cpu'"):
        model.stream(graph=True)
    with pytest.raises(ConfigError, match="precision is 'fp16': expected 'float32', 'bf16', 'fp8'"):
        model.stream(precision="fp16")
    stream = model.stream(2)
    with pytest.raises(ValueError, match=r"2 rows, one frame each: expected frames \(2, 3, 20, 24\), got \(1, 3"):
        stream.encode(torch.zeros(1, 3, 20, 24))
    with pytest.raises(ValueError, match=r"expected latents \(2, 4, 8\), got \(2, 1, 8\)"):
        stream.decode(torch.zeros(2, 1, 8))
    with pytest.raises(ValueError, match="uint8 or as floats"):
        stream.encode(torch.zeros(2, 3, 20, 24, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"bool \(2,\), one truth for each row, got torch.int64 \(1,\)"):
        stream.reset(torch.tensor([1]))


@pytest.mark.compile
@pytest.mark.parametrize("kind", ["factorised", "shared"])
def test_compiled_layers_give_the_same_stream(kind):
    check_resets(build(kind), video(), 1e-4, compile=True)


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("kind", "compiled"), [*((kind, False) for kind in GPU_KINDS), ("kernel", True), ("mixed", True)]
)
def test_a_graph_equals_the_whole_clip_and_launching_kernel_by_kernel(kind, compiled):
    model, x = build(kind, "cuda"), video(frames=11).cuda()
    latents, frames = whole(model, x)
    for graph in (True, False):
        stream = model.stream(2, precision="float32", graph=graph, compile=compiled)
        for ours, theirs, what in ((encode(stream, x), latents, "encode"), (decode(stream, latents), frames, "decode")):
            error = (ours - theirs).abs().max().item()
            assert error < 1e-4, f"{what} with graph={graph} is off by {error}"


@pytest.mark.gpu
@pytest.mark.parametrize("kind", GPU_KINDS)
def test_rows_start_anew_under_a_graph(kind):
    check_resets(build(kind, "cuda"), video().cuda(), 1e-4, precision="float32", graph=True)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", GPU_KINDS)
def test_a_gpu_streams_as_a_bf16_graph_unless_told_otherwise(kind):
    model, x = build(kind, "cuda"), video().cuda()
    check_rounded(model, x)
    stream = build(kind, "cuda").stream(2)  # of a model of its own: streams of one share what is recorded
    first = stream.encode(x[:, 0])
    kept = first.clone()
    assert stream._seat.encode.graph is not None, "nothing was recorded"
    assert stream._seat.decode.graph is None, "decode was recorded before its first call"
    stream.encode(x[:, 1])
    assert torch.equal(first, kept), "a later frame overwrote what an earlier call returned"


@pytest.mark.gpu
def test_a_graph_takes_bytes_and_frames_from_the_cpu():
    model, x = build("factorised", "cuda"), (video() * 255).to(torch.uint8)
    ours = encode(model.stream(2), x)
    assert torch.equal(ours, encode(model.stream(2), x.cuda().float() / 255))
