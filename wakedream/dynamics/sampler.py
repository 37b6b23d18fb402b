"""From noise to a frame in K passes (paper section 3.2)."""

from collections.abc import Callable, Sequence

import torch

from wakedream.dynamics.shortcut import Noised, advance, signal_of
from wakedream.notation import Latents

Predict = Callable[[Noised], Latents]


def sample(predict: Predict, noise: Latents, passes: Sequence[tuple[int, int]], finest: int) -> Latents:
    """Walk from `noise` (b t l e) over `passes`, (level, step index) each; what the last one predicts.

    predict says which clean latents the noisy ones belong to. With an oracle every number of steps arrives at the
    truth: the last step, from tau = 1 - d, is the prediction itself.
    """
    noisy, prediction = noise, noise
    for number, (level, step_index) in enumerate(passes):
        levels, indices = (torch.full(noise.shape[:2], value, device=noise.device) for value in (level, step_index))
        prediction = predict(Noised(noisy, levels, indices))
        if number + 1 < len(passes):
            signal = signal_of(levels, finest)
            noisy = advance(prediction, noisy, signal, torch.full_like(signal, 1 / len(passes)))
    return prediction
