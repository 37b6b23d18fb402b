"""Averaged weights: what is evaluated, saved and used."""

import copy

import torch
from torch import Tensor, nn


class Ema:
    """A copy of a model that follows it: average <- decay * average + (1 - decay) * weights.

    The decay starts low, min(decay, (1 + step) / (10 + step)) with `step` counted from 0, so that short runs
    are not held back by their initial weights. Buffers are copied.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.decay = decay
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.share = torch.zeros((), device=next(model.parameters()).device)  # of the new weights: 1 - decay

    def prepare(self, step: int) -> None:
        """Set what `update` adds after step `step`. Apart from it, since a recorded `update` runs no Python."""
        self.share.fill_(1 - min(self.decay, (1 + step) / (10 + step)))

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        averages: list[Tensor] = list(self.model.parameters())
        changes = torch._foreach_sub(list(model.parameters()), averages)  # lerp takes no tensor as its weight
        torch._foreach_mul_(changes, self.share)
        torch._foreach_add_(averages, changes)
        for average, buffer in zip(self.model.buffers(), model.buffers(), strict=True):
            average.copy_(buffer)
