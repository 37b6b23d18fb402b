"""Shortcut forcing: what the dynamics model is trained on (paper section 3.2, eq. 7 and 8)."""

import torch
from torch import Tensor, nn

from wakedream.dynamics.clip import LatentClip
from wakedream.dynamics.config import DynamicsObjectiveConfig
from wakedream.dynamics.dynamics import Dynamics
from wakedream.dynamics.shortcut import (
    advance,
    bootstrap_target,
    draw_bootstrap,
    draw_flow,
    finest_size,
    noised,
    ramp,
    signal_of,
    step_of,
)
from wakedream.notation import Latents


class DynamicsObjective(nn.Module):
    """LatentClip to named losses, each a mean over its frames; `shortcut` is learned from, the others say why.

    flow        frames at the smallest step: how far the prediction is from the data
    bootstrap   frames at larger steps: how far from where two steps of half the size lead, taken by the averaged
                weights. From step `config.bootstrap_from` on, in `config.bootstrap_fraction` of the rows
    shortcut    all frames. Brought to one scale by itself, the far smaller bootstrap would drown the flow
    """

    def __init__(self, dynamics: Dynamics, config: DynamicsObjectiveConfig):
        super().__init__()
        self.model, self.config = dynamics, config
        self.weights = {"shortcut": 1.0, "flow": 0.0, "bootstrap": 0.0}
        self.bootstraps = False
        self._teacher: tuple[Dynamics, ...] = ()  # a tuple: neither saved nor trained with this module

    @property
    def blocks(self) -> list[nn.Module]:
        return self.model.blocks

    @property
    def compiled(self) -> list[nn.Module]:
        return [*self.blocks, *(block for teacher in self._teacher for block in teacher.blocks)]

    def prepare(self, step: int) -> bool:
        """What kind of step comes next: with bootstrap rows or without."""
        self.bootstraps = self.config.bootstrap_fraction > 0 and step >= self.config.bootstrap_from
        self.model.shortcut.fill_(self.bootstraps)
        return self.bootstraps

    def follow(self, averaged: nn.Module) -> None:
        """These averaged weights teach; without them, the model itself."""
        self._teacher = (averaged,)  # type: ignore[assignment]

    def forward(self, clip: LatentClip) -> dict[str, Tensor]:
        clean = self.model.standardise(clip.latents)
        batch, num_frames = clean.shape[:2]
        finest, device = self.model.config.finest_steps, clean.device
        levels, sizes = draw_flow(batch, num_frames, finest, device)
        rows = self.bootstrap_rows(batch)
        if rows:
            levels[rows], sizes[rows] = draw_bootstrap(len(range(batch)[rows]), num_frames, finest, device)
        noisy = noised(clean, torch.randn_like(clean), signal_of(levels, finest))
        target = clean
        if rows:
            target = clean.clone()
            target[rows] = self._targets(clip, rows, noisy[rows], clean[rows], levels[rows], sizes[rows])
        prediction = self.model(noisy, levels, sizes, clip.actions, clip.has_action, segments=clip.segments)
        errors = (prediction.float() - target).square().mean((2, 3)) * self._weight(signal_of(levels, finest))
        coarse = sizes < finest_size(finest)
        losses = {"shortcut": errors.mean(), "flow": _mean(errors.detach(), ~coarse)}
        if rows:
            losses["bootstrap"] = _mean(errors.detach(), coarse)
        return losses

    def bootstrap_rows(self, batch: int) -> slice | None:
        """Every k-th row, so that all kinds of rows have some; None if there are none now."""
        count = int(self.config.bootstrap_fraction * batch)
        if not self.bootstraps or not count:
            return None
        stride = batch // count
        return slice(stride - 1, stride * count, stride)

    @torch.no_grad()
    def _targets(self, clip: LatentClip, rows: slice, noisy: Latents, clean: Latents, levels: Tensor,
                 sizes: Tensor) -> Latents:
        """The data where the step is the smallest; elsewhere where two steps of half the size lead.

        The teacher sees whole rows; frames at the smallest step stay as they are in both passes.
        """
        teacher = self._teacher[0] if self._teacher else self.model
        finest = self.model.config.finest_steps
        coarse = sizes < finest_size(finest)
        half = sizes + coarse.long()  # of half the step
        actions = {name: values[rows] for name, values in clip.actions.items()}

        def look(latents: Latents, at: Tensor) -> Latents:
            return teacher(latents, at, half, actions, clip.has_action[rows], segments=clip.segments[rows]).float()

        signal, step = signal_of(levels, finest), step_of(sizes)
        first = look(noisy, levels)
        halfway = torch.where(_wide(coarse), advance(first, noisy, signal, step / 2), noisy)
        second = look(halfway, levels + torch.where(coarse, finest >> half, 0))
        return torch.where(_wide(coarse), bootstrap_target(first, second, noisy, halfway, signal, step), clean)

    def _weight(self, signal: Tensor) -> Tensor:
        weight = ramp(signal) if self.config.ramp else torch.ones_like(signal)
        return weight if self.model.config.predict == "x" else weight / (1 - signal).square()  # the error of velocities


def _wide(frames: Tensor) -> Tensor:
    return frames[..., None, None]


def _mean(values: Tensor, chosen: Tensor) -> Tensor:
    """Of the chosen ones; 0 if there are none. Never waits for the device."""
    return (values * chosen).sum() / chosen.sum().clamp(min=1)
