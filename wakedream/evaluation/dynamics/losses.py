"""What the model's loss hangs on: the actions, the signal level, the step size. On held-out clips."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from wakedream.data.trajectory import Actions
from wakedream.dynamics.clip import LatentClip
from wakedream.dynamics.dynamics import Dynamics
from wakedream.dynamics.shortcut import Noised, draw_bootstrap, draw_flow, noised, ramp, signal_of
from wakedream.notation import Latents

BINS = 8  # of signal levels
TRUE, OTHERS, TIMES, NONE = "true", "of other clips", "of other times", "none"
Draw = Callable[..., tuple[Tensor, Tensor]]


@torch.no_grad()
def action_losses(dynamics: Dynamics, clip: LatentClip, *, draws: int = 4, seed: int = 0,
                  batch_size: int = 16) -> dict[str, Any] | None:
    """The flow loss at the smallest step with other actions, at the same noise and the same signal levels.

    rows: actions (true, of other clips, of other times, none), loss (weighted as in training, paper eq. 8), ratio
    (to that with true actions), ratio_by_level. levels: where each of these begins. Counted are frames with an
    action, from the second of a clip on. None where there are no such frames, or fewer than 2 clips.
    """
    counted = clip.has_action.clone()
    counted[:, 0] = False
    if not counted.any() or len(counted) < 2 or counted.shape[1] < 3:
        return None
    finest, sums = dynamics.config.finest_steps, dict[str, Tensor]()
    bins = min(BINS, finest)
    for rows, levels, step_indices, noise in _draws(dynamics, clip, draw_flow, draws, seed, batch_size):
        where = counted[rows].flatten()
        weights = torch.stack([ramp(signal_of(levels, finest)), torch.ones_like(levels, dtype=torch.float32)])
        for name, other in _variants(clip, seed).items():
            errors = _errors(dynamics, other.rows(rows), levels, step_indices, noise)
            total = sums.setdefault(name, torch.zeros(bins + 1, dtype=torch.float64))
            total[bins] += (errors * weights[0]).flatten()[where].double().sum()
            total.index_add_(0, (levels * bins // finest).flatten()[where], errors.flatten()[where].double())
    true = sums[TRUE]
    frames = int(counted.sum()) * draws
    return {"frames": frames, "levels": [i / bins for i in range(bins)], "rows": [
        {"actions": name, "loss": float(total[bins]) / frames, "ratio": _ratio(total[bins], true[bins]),
         "ratio_by_level": [_ratio(a, b) for a, b in zip(total[:bins], true[:bins], strict=True)]}
        for name, total in sums.items()]}


@torch.no_grad()
def level_losses(dynamics: Dynamics, clip: LatentClip, *, draws: int = 4, seed: int = 0,
                 batch_size: int = 16) -> list[dict[str, Any]]:
    """How far from the data one look is, mean squared and standardised, by step size and signal level.

    A cell for each pair that was drawn: step_size, signal_level, error, frames. Around frames at larger steps half of
    the frames are at the smallest, as in training; a model that never learned larger steps is asked for the smallest.
    """
    finest = dynamics.config.finest_steps
    sums, counts = torch.zeros(2, finest.bit_length(), finest, dtype=torch.float64)
    draw = draw_bootstrap if bool(dynamics.shortcut) else draw_flow
    for rows, levels, step_indices, noise in _draws(dynamics, clip, draw, draws, seed, batch_size):
        errors = _errors(dynamics, clip.rows(rows), levels, step_indices, noise).double()
        sums.index_put_((step_indices, levels), errors, accumulate=True)
        counts.index_put_((step_indices, levels), torch.ones_like(errors), accumulate=True)
    return [{"step_size": 0.5**index, "signal_level": level / finest, "error": float(sums[index, level] / count),
             "frames": int(count)} for index, level in counts.nonzero().tolist() if (count := counts[index, level])]


def _variants(clip: LatentClip, seed: int) -> dict[str, LatentClip]:
    """The clip under other actions. Clips of one episode are neighbours, so rows move by half of them all."""
    batch, num_frames = clip.has_action.shape
    generator = torch.Generator().manual_seed(seed)
    order = torch.stack([1 + torch.randperm(num_frames - 1, generator=generator) for _ in range(batch)])
    order = torch.cat([torch.zeros(batch, 1, dtype=torch.int64), order], dim=1)
    row = torch.arange(batch)[:, None]

    def under(actions: Actions, has_action: Tensor | None = None) -> LatentClip:
        return replace(clip, trajectory=clip.trajectory.with_actions(actions, has_action))

    return {
        TRUE: clip,
        OTHERS: under({name: v.roll(max(1, batch // 2), 0) for name, v in clip.actions.items()}),
        TIMES: under({name: v[row, order] for name, v in clip.actions.items()}),
        NONE: under(clip.actions, torch.zeros_like(clip.has_action)),
    }


def _draws(dynamics: Dynamics, clip: LatentClip, draw: Draw, draws: int, seed: int,
           batch_size: int) -> Iterator[tuple[slice, Tensor, Tensor, Latents]]:
    """Rows with levels, step indices and noise, on the CPU: the same on every device, and the global generator
    untouched."""
    batch, num_frames = clip.has_action.shape
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        drawn = [(*draw(batch, num_frames, dynamics.config.finest_steps, torch.device("cpu")),
                  torch.randn(clip.latents.shape)) for _ in range(draws)]
    for levels, step_indices, noise in drawn:
        for start in range(0, batch, batch_size):
            rows = slice(start, start + batch_size)
            yield rows, levels[rows], step_indices[rows], noise[rows]


def _errors(dynamics: Dynamics, clip: LatentClip, levels: Tensor, step_indices: Tensor, noise: Latents) -> Tensor:
    """(b t), on the CPU: mean squared distance of the prediction from the data, standardised."""
    device, finest = dynamics.registers.device, dynamics.config.finest_steps
    clip, levels, step_indices = clip.to(device), levels.to(device), step_indices.to(device)
    clean = dynamics.standardise(clip.latents)
    noisy = noised(clean, noise.to(device), signal_of(levels, finest))
    prediction = dynamics(Noised(noisy, levels, step_indices), clip.trajectory).latents
    return (prediction.float() - clean).square().mean((2, 3)).cpu()


def _ratio(value: Tensor, of: Tensor) -> float | None:
    return float(value / of) if of > 0 else None
