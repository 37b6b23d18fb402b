"""Fréchet distance between two sets of videos, on chunks of 16 frames; and how much they move.

    d(a, b) = |mean a - mean b|^2 + tr(cov a) + tr(cov b) - 2 tr((cov a cov b)^1/2)

the squared 2-Wasserstein distance of two Gaussians fitted to features (Heusel et al. 2017 on images, Unterthiner et
al. 2018 on video). The features here are those of an ImageNet network, so the numbers are named FD-AlexNet or
FD-VGG16: they compare with themselves alone, and with no published FID or FVD.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from wakedream.errors import ConfigError, DataError
from wakedream.evaluation.config import CHUNK
from wakedream.notation import Frames
from wakedream.perceptual.lpips import LPIPS

DIM = 64  # numbers per chunk: half appearance, half motion
MOTION_WEIGHT = 2.0
SMALLEST = 128  # pixels; smaller frames are enlarged
PIXELS, CPU_PIXELS = 2**24, 2**20  # in one pass, about: bounds memory
NAMES = {"alex": "FD-AlexNet", "vgg": "FD-VGG16"}


class FrechetFeatures:
    """`features(frames)`: frames (b t c h w) in [0, 1], t a multiple of 16 -> (b t/16 64), a row per chunk, on the CPU.

    The last convolution of AlexNet or VGG16 (after its ReLU, the weights that LPIPS uses), per chunk:

    appearance  its channels, averaged over places and over the 16 frames
    motion      the absolute change of the map from frame to frame, channel by channel, averaged over places and
                over the 15 pairs: differences of maps, since a picture's average hardly knows that something moved

    Each is brought to 32 numbers by a fixed random projection (Gaussian, the same for all data), motion times 2,
    which makes the two count about alike. Few numbers, so that some hundred chunks give a
    covariance of full rank: the raw 2 x 256 or 2 x 512 separate worse with so few, bias drowns them.
    Frames of less than 128 pixels are enlarged to it (bilinear): AlexNet's last map of a 64x64 frame is 3x3, of a
    128x128 one 7x7, and noise and blur are seen about twice as well.

    Against 200 other chunks of Crafter's data, in units of real against real (200 chunks, FD-AlexNet), measured:
    blur of 3x3 pixels 25, each chunk frozen 35, noise of 0.05 6, frames in random order 25; at 64x64 without
    enlarging 15, 22, 2.6, 27. Played backwards is not seen.
    """

    def __init__(self, network: LPIPS, device: torch.device | str = "cpu"):
        self.network = network.to(device)
        self.device = torch.device(device)
        self.name = NAMES[network.net]
        channels = network.trunk.convs[-1][0]
        self.projections = [_projection(channels, seed).to(self.device) for seed in (0, 1)]

    @classmethod
    def load(cls, net: str = "alex", device: torch.device | str = "cpu") -> "FrechetFeatures":
        """net: alex, or vgg (20 times slower: for a GPU). WeightsError says how to get the weights."""
        return cls(LPIPS.load(net), device)

    @torch.no_grad()
    def __call__(self, frames: Frames) -> Float[Tensor, "n d"]:
        """ConfigError unless RGB in chunks of 16. Rows in the order of the videos, then of time."""
        b, t, c, h, w = frames.shape
        if t % CHUNK or t == 0 or c != 3:
            raise ConfigError(f"{self.name} takes RGB videos of a multiple of {CHUNK} frames, these have {t} frames "
                              f"of {c} channels: cut them, or measure only the whole chunks")
        chunks = frames.reshape(b * t // CHUNK, CHUNK, c, h, w)
        size = _size(h, w)
        pixels = CPU_PIXELS if self.device.type == "cpu" else PIXELS
        at_once = max(1, pixels // (CHUNK * size[0] * size[1]))
        return torch.cat([self._features(part.to(self.device).float(), size).cpu() for part in chunks.split(at_once)])

    def _features(self, chunks: Frames, size: tuple[int, int]) -> Float[Tensor, "n d"]:
        images = chunks.flatten(0, 1)
        if size != images.shape[-2:]:
            images = F.interpolate(images, size, mode="bilinear", align_corners=False)
        maps = self.network.features(images)[-1].unflatten(0, chunks.shape[:2])  # (n t c h w)
        appearance = maps.mean((1, 3, 4))
        motion = MOTION_WEIGHT * (maps[:, 1:] - maps[:, :-1]).abs().mean((1, 3, 4))
        return torch.cat([part @ p for part, p in zip((appearance, motion), self.projections, strict=True)], 1)


def frechet_distance(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> float:
    """Of two sets of features, a row per sample; in float64, at least 0. ConfigError for fewer than 2 samples.

    tr((cov a cov b)^1/2) is taken as the sum of the singular values of R_a R_b', where R'R = cov (QR of the centred
    rows): no root of a matrix, no squaring, safe for covariances without full rank.

    How many samples: the fit to n samples differs from the truth, so that two sets of one kind are some way apart,
    about as 1/n. Compare only sets of equal size, and print real against real of that size beside them. Measured,
    FD-AlexNet of two halves of real play, n chunks each (mean of 10 draws; tr(cov) is 32 in both):

        n              25    50   100   200   400
        Crafter       9.7   5.6   3.0   1.4   0.8
        CoinRun      19.0  11.6   5.7   3.1   1.5

    So 100 chunks see a frozen or blurred video plainly; 200 and more are wanted to compare two good models.
    """
    for features in (a, b):
        if len(features) < 2:
            raise ConfigError(f"a Fréchet distance of {len(features)} chunks: expected at least 2, better 100 or more")
        if not features.isfinite().all():
            raise DataError("a Fréchet distance of features that are not finite: the frames hold NaN or infinity")
    (mean_a, root_a), (mean_b, root_b) = _fit(a), _fit(b)
    shared = torch.linalg.svdvals(root_a @ root_b.T).sum()
    distance = (mean_a - mean_b).square().sum() + root_a.square().sum() + root_b.square().sum() - 2 * shared
    return max(float(distance), 0.0)


def motion(frames: Frames) -> float:
    """Mean absolute difference of neighbouring frames (b t c h w) in [0, 1], t at least 2, over all pixels."""
    if frames.shape[1] < 2:
        raise ConfigError(f"motion of videos of {frames.shape[1]} frames: expected at least 2")
    return float(np.mean([float((video[1:] - video[:-1]).abs().mean(dtype=torch.float64)) for video in frames.float()]))


def _fit(features: Tensor) -> tuple[Tensor, Tensor]:
    """The mean (d,), and R (d d or n d) with R'R the covariance (divided by n - 1)."""
    rows = features.double().cpu()
    mean = rows.mean(0)
    return mean, torch.linalg.qr((rows - mean) / math.sqrt(len(rows) - 1), mode="r").R


def _projection(channels: int, seed: int) -> Tensor:
    """(channels 32); lengths are kept on average. NumPy's old generator never changes its numbers."""
    drawn = np.random.RandomState(seed).standard_normal((channels, DIM // 2)) / math.sqrt(DIM // 2)
    return torch.from_numpy(drawn).float()


def _size(h: int, w: int) -> tuple[int, int]:
    """What frames of h x w are enlarged to."""
    scale = max(1.0, SMALLEST / min(h, w))
    return round(h * scale), round(w * scale)
