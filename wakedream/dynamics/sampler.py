"""From noise to a frame in K passes (paper section 3.2)."""

from collections.abc import Callable, Sequence

import torch

from wakedream.dynamics.shortcut import Levels, advance, signal_of
from wakedream.notation import Latents

Predict = Callable[[Latents, Levels, Levels], Latents]


def sample(predict: Predict, noise: Latents, rows: Sequence[tuple[int, int]], finest: int) -> Latents:
    """Walk from `noise` (b t l e) over the levels of `rows`, (level, size) each; what the last pass predicts.

    predict takes noisy latents, levels and sizes, int64 (b t), and says which clean latents they belong to. With an
    oracle every number of steps arrives at the truth: the last step, from tau = 1 - d, is the prediction itself.
    """
    noisy, prediction = noise, noise
    for index, (level, size) in enumerate(rows):
        levels, sizes = (torch.full(noise.shape[:2], value, device=noise.device) for value in (level, size))
        prediction = predict(noisy, levels, sizes)
        if index + 1 < len(rows):
            signal = signal_of(levels, finest)
            noisy = advance(prediction, noisy, signal, torch.full_like(signal, 1 / len(rows)))
    return prediction
