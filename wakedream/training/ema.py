"""Averaged weights: what is evaluated, saved and used."""

import contextlib
import copy
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from wakedream.training.shards import is_sharded, local, whole
from wakedream.training.stored import Stored, fill


def copied(model: nn.Module) -> nn.Module:
    """A copy that shares the frozen weights."""
    frozen = {id(weight): weight for weight in model.parameters() if not weight.requires_grad}
    return copy.deepcopy(model, frozen)  # type: ignore[arg-type]


class Ema:
    """Weights that follow a model's: average <- decay * average + (1 - decay) * weights.

    The decay starts low, min(decay, (1 + step) / (10 + step)) with `step` counted from 0, so that short runs
    are not held back by their initial weights. Buffers are copied. Frozen weights are the model's own: they are neither
    copied nor averaged, nor part of the state.

    `model` holds the averages: a copy of the model, or the one given as `averaged`. If it is sharded, `gathered` puts
    its weights together in `host`, a whole copy, where there is one.
    """

    def __init__(self, model: nn.Module, decay: float, averaged: nn.Module | None = None,
                 host: nn.Module | None = None):
        self.decay, self.source, self.host = decay, model, host
        self.model = copied(model) if averaged is None else averaged
        learned = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        for kept in (self.model, host):
            if kept is not None:
                kept.eval().requires_grad_(False)
        self.averages = {name: average for name, average in self.model.named_parameters() if name in learned}
        self.is_sharded = any(is_sharded(average) for average in self.averages.values())
        self.share = torch.zeros((), device=next(iter(self.averages.values())).device)  # of the new: 1 - decay

    def prepare(self, step: int) -> None:
        """Set what `update` adds after step `step`. Apart from it, since a recorded `update` runs no Python."""
        self.share.fill_(1 - min(self.decay, (1 + step) / (10 + step)))

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        averages: list[Tensor] = [local(average) for average in self.averages.values()]
        weights = [local(parameter) for name, parameter in model.named_parameters() if name in self.averages]
        changes = torch._foreach_sub(weights, averages)  # lerp takes no tensor as its weight
        torch._foreach_mul_(changes, self.share)
        torch._foreach_add_(averages, changes)
        self._copy_buffers(self.model)

    @contextlib.contextmanager
    def gathered(self, device: torch.device) -> Iterator[nn.Module | None]:
        """The averaged model, put together on `device` if it was sharded: collective, and None where no copy is."""
        if not self.is_sharded:
            yield self.model
            return
        for name, average in self.model.named_parameters():  # one at a time: none but the host holds all
            tensor = whole(average)
            if self.host is not None:
                self.host.get_parameter(name).data.copy_(tensor)
        if self.host is None:
            yield None
            return
        self._copy_buffers(self.host)
        try:
            yield self.host.to(device)
        finally:
            self.host.to("cpu")

    def _copy_buffers(self, kept: nn.Module) -> None:
        for copied, buffer in zip(kept.buffers(), self.source.buffers(), strict=True):
            copied.copy_(buffer)

    def state_dict(self) -> dict[str, Tensor]:
        """The averages alone: buffers are the model's."""
        return dict(self.averages)

    def load_state_dict(self, state: Mapping[str, Stored]) -> None:
        for name, average in self.averages.items():
            fill(average, state[name])
        self._copy_buffers(self.model)
