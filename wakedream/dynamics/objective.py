"""Shortcut forcing: what the dynamics model is trained on (paper section 3.2, eq. 7 and 8)."""

import math

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor, nn

from wakedream.dynamics.clip import LatentClip
from wakedream.dynamics.config import DynamicsObjectiveConfig
from wakedream.dynamics.dynamics import Dynamics, Look
from wakedream.dynamics.forcing import Drawn, bootstrap_rows, draw, shortcut_losses, targets
from wakedream.dynamics.shortcut import Noised
from wakedream.notation import Latents


class DynamicsObjective(nn.Module):
    """LatentClip to named losses, each a mean over its frames; `shortcut` is learned from, the others say why.

    flow        frames at the smallest step: how far the prediction is from the data
    bootstrap   frames at larger steps: how far from where two steps of half the size lead, taken by the same weights.
                From step `config.bootstrap_from` on, in `config.bootstrap_fraction` of the rows, drawn anew for every
                batch; where a batch is too small for one, in one row of every n-th batch. Frames that nothing stands
                before always take larger steps there, and rows of images are drawn more often: what a dream from
                nothing begins with is rare among rows
    shortcut    all frames. Brought to one scale by itself, the far smaller bootstrap would drown the flow

    Made of the steps in forcing.py; `draw`, `look` and `losses` are where another objective steps in.
    """

    def __init__(self, dynamics: Dynamics, config: DynamicsObjectiveConfig, batch_size: int = 16):
        """batch_size: rows of a batch on this device."""
        super().__init__()
        self.batch_size = batch_size
        self.model, self.config = dynamics, config
        self.weights = {"shortcut": 1.0, "flow": 0.0, "bootstrap": 0.0}
        self.bootstraps = False

    @property
    def dynamics(self) -> Dynamics:
        """Of what is trained, `model`, the dynamics model: here all of it."""
        return self.model

    @property
    def blocks(self) -> list[nn.Module]:
        return self.dynamics.blocks

    @property
    def compiled(self) -> list[nn.Module]:
        return self.blocks

    def prepare(self, step: int) -> bool:
        """What the next step does: with bootstrap rows or not. `dynamics.shortcut` says that there have been some."""
        config = self.config
        self.bootstraps = (step >= config.bootstrap_from
                           and bootstraps(step, self.batch_size, config.bootstrap_fraction))
        if self.bootstraps:
            self.dynamics.shortcut.fill_(True)
        elif not config.bootstrap_fraction:
            self.dynamics.shortcut.fill_(False)
        return self.bootstraps

    def forward(self, clip: LatentClip) -> dict[str, Tensor]:
        clean = self.dynamics.standardise(clip.latents)
        drawn = self.draw(clean, clip.starts)
        return self.losses(clip, clean, drawn, self.look(clip, drawn.noised))

    def draw(self, clean: Latents, starts: Bool[Tensor, "b t"] | None = None) -> Drawn:
        """starts: frames that nothing stands before (`LatentClip.starts`)."""
        return self.draw_rows(clean, starts, len(clean), round(self.config.commit_fraction * len(clean)))

    def draw_rows(self, clean: Latents, starts: Bool[Tensor, "b t"] | None, learning: int, committed: int) -> Drawn:
        """Of the first `learning` rows some take larger steps; the last `committed` rows stand at the commit level."""
        rows, others = len(clean), min(learning, len(clean) - committed)
        count = min(others, max(1, int(self.config.bootstrap_fraction * learning))) if self.bootstraps else 0
        larger = bootstrap_rows(others, count, clean.device, None if starts is None else starts[:others])
        at_commit = None
        if committed:
            at_commit = torch.arange(rows, device=clean.device)[:, None].expand(clean.shape[:2]) >= rows - committed
        return draw(clean, self.dynamics.config.finest_steps, larger, starts=starts, at_commit=at_commit)

    def look(self, clip: LatentClip, noised: Noised) -> Look:
        return self.dynamics(noised, clip.trajectory, segments=clip.segments)

    def losses(self, clip: LatentClip, clean: Latents, drawn: Drawn, look: Look,
               mask: Tensor | None = None) -> dict[str, Tensor]:
        target = targets(self.teach, clip, drawn, clean, self.dynamics.config.finest_steps)
        return shortcut_losses(self.dynamics.config, look.latents, target, drawn, mask, self.config.ramp)

    def teach(self, noised: Noised, clip: LatentClip) -> Latents:
        """The model itself. Averaged weights lag behind, at every doubling of the step once more: six times their
        horizon until the largest step has heard of what the smallest learned."""
        return self.look(clip, noised).latents


def bootstraps(step: int, batch: int, fraction: float) -> bool:
    """Whether a batch of this step has bootstrap rows: always, or if `fraction` of it is no whole row, in one of every
    n steps, drawn anew for every n so that it falls into no rhythm with the kinds of rows."""
    if fraction * batch >= 1 or not fraction:
        return fraction > 0
    every = math.ceil(1 / (fraction * batch))
    block, turn = divmod(step, every)
    return turn == int(np.random.SeedSequence((block, every)).generate_state(1)[0]) % every
