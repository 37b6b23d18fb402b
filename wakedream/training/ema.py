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

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        weights: list[Tensor] = list(model.parameters())
        torch._foreach_lerp_([*self.model.parameters()], weights, 1 - decay)
        for average, buffer in zip(self.model.buffers(), model.buffers(), strict=True):
            average.copy_(buffer)
