"""Laws of the Fréchet distance, of the features under it, and of motion."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from wakedream.errors import ConfigError, DataError
from wakedream.evaluation import frechet
from wakedream.evaluation.frechet import FrechetFeatures, frechet_distance, motion
from wakedream.perceptual.cache import cached_path
from wakedream.perceptual.lpips import LPIPS
from wakedream.perceptual.trunks import TRUNKS

SIZE, VIDEOS = 64, 24


def samples(mean, cov, n, seed):
    """Rows whose mean and covariance are exactly these."""
    x = torch.randn(n, len(mean), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x = x - x.mean(0)
    x = x @ torch.linalg.inv(torch.linalg.cholesky(x.T @ x / (n - 1))).T
    return x @ torch.linalg.cholesky(torch.tensor(cov, dtype=torch.float64)).T + torch.tensor(mean)


def random_lpips(net: str) -> LPIPS:
    generator, weights = torch.Generator().manual_seed(0), {}
    for name, shape in TRUNKS[net].shapes().items():
        scale = math.sqrt(2 / math.prod(shape[1:])) if len(shape) == 4 else 0.0
        weights[name] = torch.randn(shape, generator=generator) * scale
    return LPIPS(net, weights)


@pytest.fixture(scope="module")
def features():
    return FrechetFeatures(random_lpips("alex"))


def scenes(count: int, seed: int) -> torch.Tensor:
    """(count 16 3 h w) in [0, 1]: textured discs that drift over a striped ground, each video its own."""
    random = np.random.RandomState(seed)
    y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    videos = torch.empty(count, 16, 3, SIZE, SIZE)
    for video in videos:
        ground, stripe = torch.tensor(random.uniform(0.2, 0.5, (2, 3, 1, 1))).float()
        period, angle = random.randint(4, 9), random.uniform(0, math.pi)
        striped = ((x * math.cos(angle) + y * math.sin(angle)) % period < period / 2)[None]
        video[:] = torch.where(striped, ground, stripe)
        for _ in range(3):
            place, speed = random.uniform(8, SIZE - 8, 2), random.uniform(-3, 3, 2)
            colour, radius = torch.tensor(random.uniform(0.5, 1, (3, 1, 1))).float(), random.uniform(5, 10)
            for t in range(16):
                px, py = (place + t * speed) % SIZE
                inside = ((x - px) ** 2 + (y - py) ** 2 < radius**2) & ((x - y) % 3 > 0)
                video[t] = torch.where(inside, colour, video[t])
    return videos


def test_equal_sets_are_at_distance_zero_and_order_does_not_matter():
    for n in (3, 30, 300):  # below and above full rank
        a = torch.rand(n, 20, generator=torch.Generator().manual_seed(n))
        b = torch.rand(n + 5, 20, generator=torch.Generator().manual_seed(n + 1)) ** 2
        assert frechet_distance(a, a.flip(0)) == pytest.approx(0, abs=1e-10)
        assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-9)
        assert frechet_distance(a, b) > 0.01


def test_equals_the_closed_form_of_gaussians():
    """In one dimension (m - m')^2 + (s - s')^2; in two, tr(M^1/2) = (tr M + 2 det(M)^1/2)^1/2."""
    one = frechet_distance(samples([1.0], [[4.0]], 50, 0), samples([3.0], [[0.25]], 70, 1))
    assert one == pytest.approx(2.0**2 + 1.5**2)
    a, b = [[2.0, 0.5], [0.5, 1.0]], [[1.0, -0.8], [-0.8, 3.0]]  # do not commute
    product = np.array(a) @ np.array(b)
    root = math.sqrt(np.trace(product) + 2 * math.sqrt(np.linalg.det(product)))
    expected = 0.5**2 + 0.25**2 + 3.0 + 4.0 - 2 * root
    found = frechet_distance(samples([0.0, 1.0], a, 40, 2), samples([0.5, 1.25], b, 30, 3))
    assert found == pytest.approx(expected)


def test_a_shift_far_larger_than_the_spread_loses_no_digits():
    a = samples([1e4, -1e4], [[1e-2, 0], [0, 1e-6]], 40, 0)
    assert frechet_distance(a, a + torch.tensor([0.0, 3.0])) == pytest.approx(9.0, rel=1e-6)


def test_a_row_is_its_chunks_appearance_and_motion_by_a_plain_loop(features, monkeypatch):
    monkeypatch.setattr(frechet, "CPU_PIXELS", 1)  # every chunk in a pass of its own
    video = scenes(2, 0).reshape(1, 32, 3, SIZE, SIZE)
    rows = features(video)
    assert rows.shape == (2, 64)
    large = F.interpolate(video[0, 16:], (128, 128), mode="bilinear", align_corners=False)
    maps = features.network.features(large)[-1]
    appearance = sum(m.mean((1, 2)) for m in maps) / 16
    moved = sum((maps[t + 1] - maps[t]).abs().mean((1, 2)) for t in range(15)) / 15
    for half, seed, raw in ((rows[1, :32], 0, appearance), (rows[1, 32:], 1, 2 * moved)):
        projection = np.random.RandomState(seed).standard_normal((256, 32)) / math.sqrt(32)
        torch.testing.assert_close(half, raw @ torch.from_numpy(projection).float(), atol=1e-4, rtol=1e-3)


def test_a_still_video_does_not_move(features):
    still = scenes(1, 0)[:, :1].expand(-1, 16, -1, -1, -1)
    assert features(still)[0, 32:].abs().max() < 1e-6
    assert motion(still) == 0


def test_motion_is_the_mean_change_of_a_pixel():
    video = torch.zeros(2, 3, 1, 2, 2)
    video[0, 1, 0, 0, 0] = 1.0  # on and off again: two changes among 2 videos x 2 pairs x 4 pixels
    assert motion(video) == pytest.approx(2 / 16)


@pytest.mark.parametrize("weights", ["random", "real"])
def test_spoilt_videos_are_farther_than_other_real_ones(features, weights, monkeypatch):
    if weights == "real":
        if not cached_path("alex").exists():
            pytest.skip("needs `wakedream weights lpips`")
        features = FrechetFeatures.load("alex")
    monkeypatch.setattr(frechet, "SMALLEST", SIZE)  # quick
    generator = torch.Generator().manual_seed(0)
    real, others = scenes(VIDEOS, 1), scenes(VIDEOS, 2)
    blurred = F.avg_pool2d(others.flatten(0, 1), 5, 1, 2).unflatten(0, (VIDEOS, 16))
    spoilt = {
        "blurred": blurred,
        "frozen": others[:, :1].expand_as(others),
        "noisy": (others + 0.15 * torch.randn(others.shape, generator=generator)).clamp(0, 1),
        "shuffled": others[:, torch.randperm(16, generator=generator)],
    }
    base = features(real)
    found = {name: frechet_distance(base, features(video)) for name, video in spoilt.items()}
    least = frechet_distance(base, features(others))
    assert least > 0
    assert {name: value > 1.2 * least for name, value in found.items()} == dict.fromkeys(spoilt, True), (least, found)


def test_more_noise_is_farther(features, monkeypatch):
    monkeypatch.setattr(frechet, "SMALLEST", SIZE)
    real, noise = scenes(8, 1), torch.randn(8, 16, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    base = features(real)
    values = [frechet_distance(base, features((real + s * noise).clamp(0, 1))) for s in (0.02, 0.1, 0.4)]
    assert values == sorted(values)


def test_networks_go_by_their_names(monkeypatch):
    monkeypatch.setattr(frechet, "SMALLEST", 32)
    assert [FrechetFeatures(random_lpips(net)).name for net in ("alex", "vgg")] == ["FD-AlexNet", "FD-VGG16"]
    tall = FrechetFeatures(random_lpips("vgg"))(torch.rand(1, 16, 3, 16, 8))
    assert tall.shape == (1, 64)


def test_bad_input_is_named(features):
    with pytest.raises(ConfigError, match="multiple of 16 frames, these have 20"):
        features(torch.rand(1, 20, 3, 32, 32))
    with pytest.raises(ConfigError, match="1 channels"):
        features(torch.rand(1, 16, 1, 32, 32))
    with pytest.raises(ConfigError, match="of 1 chunks"):
        frechet_distance(torch.rand(1, 4), torch.rand(5, 4))
    with pytest.raises(DataError, match="not finite"):
        frechet_distance(torch.rand(5, 4), torch.full((5, 4), torch.nan))
    with pytest.raises(ConfigError, match="of 1 frames"):
        motion(torch.rand(1, 1, 3, 4, 4))
