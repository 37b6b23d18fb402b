"""Images and random weights, the same on every machine, on which LPIPS is compared with the reference."""

import numpy as np
import torch
from torch import Tensor


def pairs(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Four pairs (4 3 h w) in [0, 1]: identical, moved by a pixel, noisy, unrelated."""
    random = np.random.RandomState(7)
    y, x = np.mgrid[0:height, 0:width] / 16.0
    waves = [np.sin(a * x + b * y + c) for a, b, c in random.uniform(-3, 3, (3, 3))]
    picture = np.stack(waves) * 0.4 + 0.5 + 0.1 * (np.floor(x * 2) % 2)
    noisy = picture + 0.2 * random.standard_normal(picture.shape)
    targets = np.stack([picture] * 4)
    predictions = np.stack([picture, np.roll(picture, 1, axis=-1), noisy, picture[::-1, ::-1]])
    return tuple(torch.tensor(a.clip(0, 1), dtype=torch.float32) for a in (predictions, targets))


def random_weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """He-scaled convolutions, non-negative heads."""
    random = np.random.RandomState(3)
    weights = {}
    for name, shape in shapes.items():
        values = random.standard_normal(shape)
        if name.startswith("head"):
            values = abs(values)
        elif name.endswith("weight"):
            values *= np.sqrt(2 / np.prod(shape[1:]))
        weights[name] = torch.tensor(values, dtype=torch.float32)
    return weights
