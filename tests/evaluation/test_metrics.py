import math

import pytest
import torch

from wakedream.evaluation.metrics import ReconstructionMetrics, psnr


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(5, 4, 3, 16, 24, generator=generator)
    strength = torch.rand(5, 4, 1, 1, 1, generator=generator) * 0.5  # errors differ much from frame to frame
    prediction = (target + strength * torch.randn(target.shape, generator=generator)).clamp(0, 1)
    return prediction, target


def collect(prediction, target, lpips=None, batches=(2, 3)):
    metrics = ReconstructionMetrics(lpips)
    for p, t in zip(prediction.split(batches), target.split(batches), strict=True):
        metrics.update(p, t)
    return metrics


def test_psnr_pools_the_error_over_all_pixels(pair):
    prediction, target = pair
    total, count = 0.0, 0
    for p, t in zip(prediction.flatten().tolist(), target.flatten().tolist(), strict=True):
        total += (p - t) ** 2
        count += 1
    assert collect(*pair).compute()["psnr"] == pytest.approx(-10 * math.log10(total / count), abs=1e-4)


def test_a_share_of_the_frames_and_each_frame_index(pair):
    prediction, target = pair
    where = torch.rand(5, 4, generator=torch.Generator().manual_seed(1)) > 0.5
    metrics = collect(*pair)
    found = metrics.compute(where)
    assert found["frames"] == where.sum()
    assert found["psnr"] == pytest.approx(psnr((prediction[where] - target[where]).square().mean()), abs=1e-4)
    for t, value in enumerate(metrics.by_frame()["psnr"]):
        assert value == pytest.approx(psnr((prediction[:, t] - target[:, t]).square().mean()), abs=1e-4)
    assert metrics.compute(torch.zeros(5, 4, dtype=torch.bool)) == {"frames": 0}


def test_equal_pictures_are_best_by_every_measure(pair, lpips):
    target = torch.rand(1, 2, 3, 32, 32)
    found = collect(target, target, lpips, batches=1).compute()
    assert found == {"psnr": 100.0, "ssim": pytest.approx(1), "lpips": 0.0, "frames": 2}


def test_autocast_changes_no_number(pair, lpips):
    target = torch.rand(2, 2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    plain = collect(target.flip(0), target, lpips, batches=1).compute()
    with torch.autocast("cpu", torch.bfloat16):
        assert collect(target.flip(0), target, lpips, batches=1).compute() == plain


def test_ssim_equals_the_definition():
    """Weighted means, variances and covariance in the 11x11 window about every pixel, borders reflected."""
    generator = torch.Generator().manual_seed(0)
    dark_to_bright = torch.linspace(0, 1, 40) ** 3  # both constants matter somewhere
    target = dark_to_bright * torch.rand(1, 1, 1, 40, 40, generator=generator)
    prediction = target * 0.6 + 0.2 * dark_to_bright.flip(0) * torch.rand(target.shape, generator=generator)
    axis = torch.exp(-((torch.arange(11) - 5.0) ** 2) / (2 * 1.5**2))
    window = axis[:, None] * axis / axis.sum() ** 2
    pad = torch.nn.ReflectionPad2d(5)
    padded = [pad(image[0])[0, 0] for image in (prediction, target)]
    values = []
    for top in range(40):
        for left in range(40):
            x, y = (image[top : top + 11, left : left + 11] for image in padded)
            mx, my = (window * x).sum(), (window * y).sum()
            vx, vy = (window * x * x).sum() - mx**2, (window * y * y).sum() - my**2
            cov = (window * x * y).sum() - mx * my
            luminance = (2 * mx * my + 1e-4) / (mx**2 + my**2 + 1e-4)
            values.append(luminance * (2 * cov + 9e-4) / (vx + vy + 9e-4))
    found = collect(prediction, target, batches=1).compute()["ssim"]
    assert found == pytest.approx(float(torch.stack(values).mean()), abs=1e-4)


def test_worse_pictures_score_worse(lpips):
    target = torch.rand(1, 1, 3, 32, 32)
    noise = torch.randn(target.shape, generator=torch.Generator().manual_seed(0))
    scores = [collect((target + s * noise).clamp(0, 1), target, lpips, 1).compute() for s in (0.02, 0.1, 0.4)]
    for name, sign in (("psnr", 1), ("ssim", 1), ("lpips", -1)):
        values = [score[name] * sign for score in scores]
        assert values == sorted(values, reverse=True)


def test_small_frames_have_no_ssim():
    small = torch.rand(1, 1, 3, 8, 8)
    assert collect(small, small, batches=1).compute() == {"psnr": 100.0, "frames": 1}


def test_what_moves_is_judged_by_the_pixels_that_differ_from_the_background(pair):
    """Pooled over all of them: frames with more of them weigh more, frames without any nothing."""
    prediction, target = pair
    behind = target[0, 0].clone()
    target[1] = behind  # nothing moves there
    metrics = ReconstructionMetrics(behind=behind)
    for p, t in zip(prediction.split(2), target.split(2), strict=True):
        metrics.update(p, t)
    moves = ((target - behind).abs() * 255 > 20.5).any(2, keepdim=True).expand_as(target)
    errors = (prediction - target).square()
    assert 0.1 < moves.float().mean() < 0.9
    assert metrics.compute()["psnr_moving"] == pytest.approx(psnr(errors[moves].mean()), abs=1e-4)
    where = torch.zeros(5, 4, dtype=torch.bool)
    where[1] = True
    assert "psnr_moving" not in metrics.compute(where)
    for t, value in enumerate(metrics.by_frame()["psnr_moving"]):
        assert value == pytest.approx(psnr(errors[:, t][moves[:, t]].mean()), abs=1e-4)
