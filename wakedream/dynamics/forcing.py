"""The steps of shortcut forcing, each by itself: draw, look, targets, losses (paper section 3.2, eq. 7 and 8).

    rows = bootstrap_rows(batch, count, device, clip.starts)        # which rows bootstrap, by number; None: none
    drawn = draw(clean, finest, rows, starts=clip.starts)           # Drawn(noised, rows); all may be given
    look = dynamics(drawn.noised, clip.trajectory, segments=clip.segments)
    target = targets(teacher, clip, drawn, clean)                   # where each frame is to arrive
    losses = shortcut_losses(dynamics.config, look.latents, target, drawn, mask)

DynamicsObjective puts them together; another objective may fix some rows, add tokens of its own to the look, or leave
frames out of the losses. Nothing here waits for the device.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from wakedream.dynamics.clip import LatentClip
from wakedream.dynamics.config import DynamicsConfig
from wakedream.dynamics.shortcut import (
    Noised,
    advance,
    bootstrap_target,
    commit_level,
    draw_bootstrap,
    draw_flow,
    finest_index,
    noised,
    ramp,
    signal_of,
    step_of,
)
from wakedream.notation import Latents, Levels

STARTS_WEIGH = 3.0
Predict = Callable[[Noised, LatentClip], Latents]


class Drawn(NamedTuple):
    """What a step of training looks at. rows: int64 (n), the bootstrap rows, or None."""

    noised: Noised
    rows: Int[Tensor, " n"] | None


def bootstrap_rows(batch: int, count: int, device: torch.device | str,
                   starts: Bool[Tensor, "b t"] | None = None) -> Int[Tensor, " n"] | None:
    """`count` different rows of the batch, drawn on the device: every kind of row has its share.

    starts: frames that nothing stands before; a row of them alone (images) has `STARTS_WEIGH` times the weight of a row
    without. None: all rows weigh the same.
    """
    if not count:
        return None
    keys = torch.rand(batch, device=device).log()
    if starts is not None:
        keys = keys / (1 + (STARTS_WEIGH - 1) * starts.float().mean(1))  # Efraimidis and Spirakis 2006
    return keys.argsort(descending=True)[:count]


def draw(clean: Latents, finest: int, rows: Int[Tensor, " n"] | None = None, *, levels: Levels | None = None,
         step_indices: Levels | None = None, noise: Latents | None = None, starts: Bool[Tensor, "b t"] | None = None,
         at_commit: Bool[Tensor, "b t"] | None = None) -> Drawn:
    """Signal levels, steps and noise for clean latents (b t l e), standardised.

    All frames are flow frames, at the smallest step, but for those of the bootstrap rows that draw_bootstrap gives a
    larger one. levels, step_indices, noise: given instead of drawn. starts: frames that nothing stands before, which
    always take a larger step in bootstrap rows. at_commit: frames that stand at the commit level
    with the smallest step, as the past of a dream does.
    """
    batch, num_frames = clean.shape[:2]
    if levels is None or step_indices is None:
        drawn, indices = draw_flow(batch, num_frames, finest, clean.device)
        if rows is not None:
            first = None if starts is None else starts[rows]
            drawn[rows], indices[rows] = draw_bootstrap(len(rows), num_frames, finest, clean.device, first)
        levels, step_indices = drawn if levels is None else levels, indices if step_indices is None else step_indices
    if at_commit is not None:
        levels = torch.where(at_commit, commit_level(finest), levels)
        step_indices = torch.where(at_commit, finest_index(finest), step_indices)
    noise = torch.randn_like(clean) if noise is None else noise
    return Drawn(Noised(noised(clean, noise, signal_of(levels, finest)), levels, step_indices), rows)


@torch.no_grad()
def targets(teacher: Predict, clip: LatentClip, drawn: Drawn, clean: Latents, finest: int) -> Latents:
    """The data where the step is the smallest; elsewhere where two steps of half the size lead, as `teacher` takes
    them: the model that learns, without a gradient.

    The teacher sees whole rows; frames at the smallest step stay as they are in both passes.
    """
    if drawn.rows is None:
        return clean
    rows, part = drawn.rows, clip.rows(drawn.rows)
    noisy, levels, indices = (tensor[rows] for tensor in drawn.noised)
    coarse = indices < finest_index(finest)
    half = indices + coarse.long()  # of half the step
    signal, step = signal_of(levels, finest), step_of(indices)
    first = teacher(Noised(noisy, levels, half), part).float()
    halfway = torch.where(_wide(coarse), advance(first, noisy, signal, step / 2), noisy)
    second = teacher(Noised(halfway, levels + torch.where(coarse, finest >> half, 0), half), part).float()
    target = clean.clone()
    led = bootstrap_target(first, second, noisy, halfway, signal, step)
    target[rows] = torch.where(_wide(coarse), led, clean[rows])
    return target


def shortcut_losses(config: DynamicsConfig, prediction: Latents, target: Latents, drawn: Drawn,
                    mask: Bool[Tensor, "b t"] | None = None, weigh: bool = True) -> dict[str, Tensor]:
    """Means over the frames where `mask` (default: all) is True: `shortcut` to learn from, `flow` and, with bootstrap
    rows, `bootstrap` to say why. weigh: by the ramp (paper eq. 8)."""
    levels, indices = drawn.noised.levels, drawn.noised.step_indices
    signal = signal_of(levels, config.finest_steps)
    errors = (prediction.float() - target).square().mean((2, 3)) * _weight(signal, config.predict, weigh)
    coarse = indices < finest_index(config.finest_steps)
    counted = torch.ones_like(coarse) if mask is None else mask
    losses = {"shortcut": errors.mean() if mask is None else masked_mean(errors, mask),
              "flow": masked_mean(errors.detach(), ~coarse & counted)}
    if drawn.rows is not None:
        losses["bootstrap"] = masked_mean(errors.detach(), coarse & counted)
    return losses


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Of the chosen ones; 0 if there are none. Never waits for the device."""
    return (values * mask).sum() / mask.sum().clamp(min=1)


def _weight(signal: Float[Tensor, "b t"], predict: str, weigh: bool) -> Float[Tensor, "b t"]:
    weight = ramp(signal) if weigh else torch.ones_like(signal)
    return weight if predict == "x" else weight / (1 - signal).square()  # the error of velocities


def _wide(frames: Tensor) -> Tensor:
    return frames[..., None, None]
