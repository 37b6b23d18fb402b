"""LPIPS has the reference's numbers, is frozen, and never guesses."""

import json
import sys
from pathlib import Path

import pytest
import torch

from wakedream.errors import ConfigError, WeightsError
from wakedream.perceptual.cache import cached_path
from wakedream.perceptual.lpips import LPIPS, _unit
from wakedream.perceptual.trunks import TRUNKS

GOLDEN = Path(__file__).parents[1] / "golden"
sys.path.insert(0, str(GOLDEN))
from lpips_pairs import pairs, random_weights  # noqa: E402

EXPECTED = json.loads((GOLDEN / "lpips.json").read_text())


@pytest.fixture(scope="module")
def alex() -> LPIPS:
    return LPIPS("alex", random_weights(TRUNKS["alex"].shapes()))


def reference(prediction, target, weights):
    """The published definition for AlexNet, one pair and one tap at a time."""
    total = 0.0
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    maps = []
    for image in (prediction, target):
        x = ((image * 2 - 1) - shift[:, None, None]) / scale[:, None, None]
        x, taps = x[None], []
        convolutions = ((4, 2, 0), (1, 2, 1), (1, 1, 1), (1, 1, 0), (1, 1, 0))
        for i, (stride, padding, pooled) in enumerate(convolutions):
            if pooled:
                x = torch.nn.MaxPool2d(3, 2)(x)
            x = torch.conv2d(x, weights[f"conv{i}_weight"], weights[f"conv{i}_bias"], stride, padding)
            x = x.clamp(min=0)
            taps.append(x[0])
        maps.append(taps)
    for k, (first, second) in enumerate(zip(*maps, strict=True)):
        first = first / ((first**2).sum(0, keepdim=True).sqrt() + 1e-10)
        second = second / ((second**2).sum(0, keepdim=True).sqrt() + 1e-10)
        total += ((first - second) ** 2 * weights[f"head{k}"][:, None, None]).sum(0).mean()
    return total


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_equals_the_reference_package_on_random_weights(net):
    lpips = LPIPS(net, random_weights(TRUNKS[net].shapes()))
    for size, expected in EXPECTED[net]["random"].items():
        distances = lpips(*pairs(*map(int, size.split("x"))))
        torch.testing.assert_close(distances, torch.tensor(expected), atol=1e-4, rtol=1e-4)


def test_equals_the_published_definition(alex):
    predictions, targets = pairs(40, 56)
    weights = dict(alex.named_buffers())
    expected = torch.stack([reference(p, t, weights) for p, t in zip(predictions, targets, strict=True)])
    torch.testing.assert_close(alex(predictions, targets), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_equals_the_reference_package_on_the_real_weights(net):
    if not cached_path(net).exists():
        pytest.skip(f"no LPIPS weights for {net} here: wakedream weights lpips --net all --package")
    lpips = LPIPS.load(net)
    for size, expected in EXPECTED[net]["real"].items():
        distances = lpips(*pairs(*map(int, size.split("x"))))
        torch.testing.assert_close(distances, torch.tensor(expected), atol=1e-4, rtol=1e-4)


def test_identical_images_are_at_distance_zero(alex):
    image = torch.rand(2, 3, 40, 40)
    assert alex(image, image).abs().max() == 0


def test_frozen_and_in_eval_mode_whatever_is_asked(alex):
    outer = torch.nn.Sequential(alex)
    outer.train()
    assert not alex.training
    assert not list(alex.parameters())
    assert not alex.state_dict()
    prediction, target = pairs(40, 40)
    assert torch.equal(alex(prediction, target), alex(prediction, target))


def test_gradient_reaches_the_prediction_alone(alex):
    prediction, target = (image.requires_grad_() for image in pairs(40, 40))
    alex(prediction, target).sum().backward()
    assert prediction.grad[1].abs().sum() > 0
    assert target.grad is None


def test_gradient_is_finite_where_features_are_zero(alex):
    """The derivative of a length at 0 is taken as 0, so that no NaN depends on what comes before."""
    feature = torch.zeros(1, 4, 2, 2, requires_grad=True)
    _unit(feature).sum().backward()
    assert feature.grad.isfinite().all()
    plain = torch.ones(1, 3, 32, 32, requires_grad=True)
    alex(plain, torch.rand(1, 3, 32, 32)).sum().backward()
    assert plain.grad.isfinite().all()


def test_the_range_is_fixed(alex):
    """An image without dark pixels is not stretched, one that leaves [0, 1] is not squeezed."""
    prediction, target = pairs(40, 40)
    weights = dict(alex.named_buffers())
    for gain, offset in ((0.5, 0.5), (1.5, -0.25)):
        p, t = prediction[2] * gain + offset, target[2] * gain + offset
        torch.testing.assert_close(alex(p[None], t[None])[0], reference(p, t, weights), atol=1e-5, rtol=1e-4)


def test_bfloat16_autocast_is_near(alex):
    prediction, target = pairs(64, 64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        near = alex(prediction, target)
    assert near.dtype == torch.float32
    torch.testing.assert_close(near, alex(prediction, target), atol=0.01, rtol=0.1)


def test_too_small_or_grey_images_are_refused(alex):
    alex(torch.rand(1, 3, 31, 31), torch.rand(1, 3, 31, 31))
    with pytest.raises(ConfigError, match="at least 31x31"):
        alex(torch.rand(1, 3, 30, 64), torch.rand(1, 3, 30, 64))
    with pytest.raises(ConfigError, match="with 1 channels"):
        alex(torch.rand(1, 1, 64, 64), torch.rand(1, 1, 64, 64))


def test_unknown_network():
    with pytest.raises(ConfigError, match="did you mean 'alex'"):
        LPIPS.load("alexnet")


def test_missing_weights_say_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setenv("WAKEDREAM_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match=r"wakedream weights lpips .*loss weight 0"):
        LPIPS.load()
