"""Laws of products in fp8: near those in float32, kept once, renewed in place, refused where a GPU has none."""

import pytest
import torch
from torch import nn

from wakedream.errors import ConfigError
from wakedream.model import fp8
from wakedream.model.fp8 import LARGEST, Fp8Product, check_fp8
from wakedream.model.frozen import frozen, refresh, up_to_date
from wakedream.transformer.config import TransformerConfig
from wakedream.transformer.layers import RMSNorm
from wakedream.transformer.layout import TokenLayout
from wakedream.transformer.transformer import Transformer

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
LAYOUT = TokenLayout((("a", 5),), (("a", ("a",)),))
PRODUCTS = [("attention.query", "attention.key", "attention.value"), ("attention.out",), ("mlp.gate", "mlp.up"),
            ("mlp.down",)]


def transformer(**changes) -> Transformer:
    torch.manual_seed(0)
    values = {"dim": 64, "depth": 2, "heads": 2, "kv_heads": 1, "mlp_dim": 96, "window": 4,
              "pattern": ("space", "time")}
    return Transformer(TransformerConfig(**values | changes)).eval()


def products(copied: nn.Module) -> list[Fp8Product]:
    return [part for part in copied.modules() if isinstance(part, Fp8Product)]


def product(*matrices: torch.Tensor, norm: float = 1) -> Fp8Product:
    """Of a norm's output, all of whose weights are `norm`."""
    (n, k), device = torch.cat(matrices).shape, matrices[0].device
    layer = nn.ModuleDict({f"{i}": nn.Linear(k, len(matrix), bias=False) for i, matrix in enumerate(matrices)})
    for i, matrix in enumerate(matrices):
        layer[f"{i}"].weight.data = matrix
    layer["norm"] = RMSNorm(k).to(device)
    layer["norm"].weight.data.fill_(norm)
    made = Fp8Product(n, k, [f"{i}" for i in range(len(matrices))], "norm", device=device)
    made.take(layer)
    return made


@pytest.mark.parametrize("device", DEVICES)
def test_a_product_is_that_of_its_matrices_in_float32(device):
    """Each number is rounded to 3 bits of mantissa, 1/16 of it at most: 4 % of the product's rms on average."""
    torch.manual_seed(0)
    first, second, x = torch.randn(32, 64), 0.1 * torch.randn(16, 64), torch.randn(2, 3, 5, 64).bfloat16()
    found = product(first.to(device), second.to(device))(x.to(device)).cpu()
    wanted = x.float() @ torch.cat([first, second]).T
    assert found.dtype == torch.bfloat16 and found.shape == (2, 3, 5, 48)
    for part in (slice(0, 32), slice(32, 48)):
        assert (found.float() - wanted)[..., part].norm() < 0.05 * wanted[..., part].norm()


@pytest.mark.parametrize("device", DEVICES)
def test_what_is_e4m3_already_is_taken_as_it_is(device):
    torch.manual_seed(0)
    made, x = product(torch.randn(32, 64, device=device)), torch.randn(2, 5, 64, device=device).bfloat16()
    assert torch.equal(made(fp8.e4m3(x / made.unit)), made(x))


@pytest.mark.parametrize("device", DEVICES)
def test_what_is_beyond_the_range_is_its_end(device):
    """Also where a plain cast gives NaN; what is not a number stays none."""
    made = product(torch.eye(16, device=device), norm=LARGEST / 4)
    assert made.unit == 1  # sqrt(16) times the norm's weight is the largest number
    x = torch.zeros(5, 16, device=device, dtype=torch.bfloat16)
    x[:, 0] = torch.tensor([449.0, -1e4, 1e38, -torch.inf, torch.nan])
    found = made(x)[:, 0].float()
    ends = torch.tensor([LARGEST, -LARGEST, LARGEST, -LARGEST, torch.nan], device=device)
    torch.testing.assert_close(found, ends, equal_nan=True, rtol=0, atol=0)


def test_a_layer_of_a_copy_has_its_four_products_in_fp8_and_nothing_of_them_twice():
    """One byte for each of their weights, two for all else, two scales for each product."""
    model = transformer()
    copied = frozen(model, "fp8")
    assert sorted(part.maps for part in products(copied)) == sorted(PRODUCTS * 2)
    inside = sum(part.numel() for name, part in model.named_parameters() if "norm" not in name)
    beside = sum(part.numel() for name, part in model.named_parameters() if "norm" in name)
    kept = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
            for tensor in [*copied.parameters(), *copied.buffers()]}
    assert sum(kept.values()) == inside + 2 * beside + 2 * 4 * len(products(copied))


def test_a_matrix_that_does_not_fit_stays_bf16():
    """Sides are multiples of 16: those of gate and up together are, down's are not."""
    copied = frozen(transformer(mlp_dim=88), "fp8")
    assert sorted(part.maps for part in products(copied)) == sorted(PRODUCTS[:3] * 2)
    assert copied.layers[0].mlp.down.weight.dtype == torch.bfloat16
    assert copied(torch.randn(1, 2, 5, 64).bfloat16(), LAYOUT).isfinite().all()


@pytest.mark.parametrize("name", [f"layers.1.{part}.weight" for part in (
    "attention.query", "attention.key", "attention.value", "attention.out", "mlp.gate", "mlp.up", "mlp.down",
    "attention_norm", "mlp_norm")])
def test_a_copy_knows_that_a_weight_has_changed_and_is_renewed_in_place(name):
    """A number more, or all of them so that the scale alone is another."""
    model = transformer()
    copied, x = frozen(model, "fp8"), torch.randn(1, 2, 5, 64).bfloat16()
    assert up_to_date(copied, model)
    places = [tensor.data_ptr() for tensor in [*copied.parameters(), *copied.buffers()]]
    for change in (lambda weight: weight.view(-1)[-1:].add_(0.5), lambda weight: weight.mul_(2)):
        before = copied(x, LAYOUT)
        with torch.no_grad():
            change(model.get_parameter(name))
        assert not up_to_date(copied, model)
        refresh(copied, model)
        assert up_to_date(copied, model)
        after = copied(x, LAYOUT)
        assert torch.equal(after, frozen(model, "fp8")(x, LAYOUT)) and not torch.equal(after, before)
    assert places == [tensor.data_ptr() for tensor in [*copied.parameters(), *copied.buffers()]]


def test_all_products_times_two_are_the_same_bytes_with_another_scale():
    model = transformer()
    copied = frozen(model, "fp8")
    kept = [part.weight.view(torch.uint8).clone() for part in products(copied)]
    with torch.no_grad():
        for part in model.parameters():
            part.mul_(2 if part.ndim > 1 else 1)
    assert not up_to_date(copied, model)
    refresh(copied, model)
    for part, old in zip(products(copied), kept, strict=True):
        assert torch.equal(part.weight.view(torch.uint8), old)


@pytest.mark.parametrize("pattern", [("space", "time"), ("dense",)])
def test_no_input_is_beyond_what_the_weights_say_and_the_largest_comes_near(pattern):
    """All frames are the worst: their norms lie along a row of value, gate and up alike."""
    model = transformer(pattern=pattern, depth=1 if pattern == ("dense",) else 2, kv_heads=2)
    row = torch.randn(64)
    with torch.no_grad():
        for layer in model.layers:
            for norm in (layer.attention_norm, layer.mlp_norm):
                norm.weight.copy_(2 * torch.rand(64))
            layer.attention.value.weight[5] = layer.mlp.gate.weight[7] = layer.mlp.up.weight[7] = 3 * row
            layer.attention.out.weight.mul_(1e-3)
            layer.mlp.down.weight.mul_(1e-4)
    copied, found = frozen(model, "fp8"), []
    for name, part in copied.named_modules():
        if isinstance(part, Fp8Product):
            part.register_forward_pre_hook(lambda part, given, name=name: found.append(
                (name, float(given[0].abs().max() / part.unit))))
    copied((row * model.layers[0].attention_norm.weight.detach()).expand(1, 3, 5, 64).bfloat16(), LAYOUT)
    assert len(found) == 4 * len(copied.layers) and all(largest < 1.1 * LARGEST for _, largest in found), found
    assert min(largest for name, largest in found if name.endswith(("out", "down"))) > LARGEST / 8, found


@pytest.mark.parametrize("number", [torch.nan, torch.inf])
def test_a_number_that_is_not_finite_is_never_up_to_date(number):
    model = transformer()
    model.layers[0].mlp.up.weight.data[3, 4] = number
    assert not up_to_date(frozen(model, "fp8"), model)


def test_a_matrix_of_zeros_makes_zeros():
    assert torch.equal(product(torch.zeros(16, 32))(torch.ones(2, 32).bfloat16()), torch.zeros(2, 16).bfloat16())


@pytest.mark.parametrize("device", [pytest.param("cpu", marks=pytest.mark.compile),
                                    pytest.param("cuda", marks=pytest.mark.gpu)])
def test_compiled_it_is_the_same_without_a_break(device):
    model = transformer().to(device)
    copied, x = frozen(model, "fp8"), torch.randn(1, 2, 5, 64, device=device).bfloat16()
    eager = copied(x, LAYOUT).float()
    for layer in copied.layers:
        layer.compile(fullgraph=True, dynamic=False)
    assert (copied(x, LAYOUT).float() - eager).norm() < 0.05 * eager.norm()  # what is fused is rounded less often


@pytest.mark.gpu
@torch.no_grad()
def test_the_kernels_for_attention_cast_what_the_next_product_takes(monkeypatch):
    """A stream of frames of which the last layer's outputs are wanted in part: as by the plain path, rounded less."""
    layout = TokenLayout((("a", 140), ("b", 5), ("c", 3)), tuple((name, ("a", "b", "c")) for name in "abc"))
    copied = frozen(transformer(heads=2, kv_heads=1, dim=64, depth=4).cuda(), "fp8")
    x = torch.randn(6, 2, 2, 148, 64, device="cuda").bfloat16()

    def stream():
        cache, taken = copied.init_cache(2, layout), []
        for part in copied.layers:
            part.attention.out.register_forward_pre_hook(lambda _part, given: taken.append(given[0].dtype))
        return [copied(part, layout, cache=cache, keep=("a", "c")).float() for part in x], set(taken)

    quick, types = stream()
    assert types == {fp8.E4M3}
    monkeypatch.setattr("wakedream.transformer.transformer.kernel_fits", lambda *_: False)
    for found, wanted in zip(quick, stream()[0], strict=True):
        assert (found - wanted).norm() < 0.05 * wanted.norm()


@pytest.mark.parametrize(("capability", "fits"), [((8, 0), False), ((8, 9), True), ((9, 0), True), ((12, 0), True)])
def test_gpus_that_have_none_say_so(monkeypatch, capability, fits):
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA A100")
    device = torch.device("cuda", 0)
    assert fp8.has_fp8(device) == fits
    if fits:
        check_fp8(device)
    else:
        with pytest.raises(ConfigError, match=r"8\.9 or higher .*, found NVIDIA A100 with 8\.0: use 'bf16'"):
            check_fp8(device)
    with pytest.raises(ConfigError, match="found 'mps': use 'bf16'"):
        check_fp8(torch.device("mps"))
