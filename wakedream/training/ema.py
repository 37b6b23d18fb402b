"""Averaged weights: what is evaluated, saved and used."""

import contextlib
import copy
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from wakedream.training.shards import is_sharded, local, whole
from wakedream.training.stored import Stored, fill


class Ema:
    """Weights that follow a model's: average <- decay * average + (1 - decay) * weights.

    The decay starts low, min(decay, (1 + step) / (10 + step)) with `step` counted from 0, so that short runs
    are not held back by their initial weights. Buffers are copied.

    `model` holds the averages of a model that is whole. Those of a sharded one are sharded alike: `model` is then
    the copy given as `host`, in which `gathered` puts them together, or None where there is none.
    """

    def __init__(self, model: nn.Module, decay: float, host: nn.Module | None = None):
        self.decay, self.source = decay, model
        parameters = dict(model.named_parameters())
        self.is_sharded = any(is_sharded(parameter) for parameter in parameters.values())
        self.model = host if self.is_sharded else copy.deepcopy(model)
        if self.model is not None:
            self.model.eval().requires_grad_(False)
        self.averages = (
            {name: parameter.detach().clone() for name, parameter in parameters.items()}
            if self.is_sharded or self.model is None else dict(self.model.named_parameters())
        )
        self.share = torch.zeros((), device=next(iter(parameters.values())).device)  # of the new: 1 - decay

    def prepare(self, step: int) -> None:
        """Set what `update` adds after step `step`. Apart from it, since a recorded `update` runs no Python."""
        self.share.fill_(1 - min(self.decay, (1 + step) / (10 + step)))

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        averages: list[Tensor] = [local(average) for average in self.averages.values()]
        weights = [local(parameter) for parameter in model.parameters()]
        changes = torch._foreach_sub(weights, averages)  # lerp takes no tensor as its weight
        torch._foreach_mul_(changes, self.share)
        torch._foreach_add_(averages, changes)
        if not self.is_sharded:
            self._copy_buffers()

    @contextlib.contextmanager
    def gathered(self, device: torch.device) -> Iterator[nn.Module | None]:
        """The averaged model, put together on `device` if it was sharded: collective, and None where no copy is."""
        if not self.is_sharded:
            yield self.model
            return
        for name, average in self.averages.items():  # one at a time: none but the host holds all
            tensor = whole(average)
            if self.model is not None:
                self.model.get_parameter(name).data.copy_(tensor)
        if self.model is None:
            yield None
            return
        self._copy_buffers()
        try:
            yield self.model.to(device)
        finally:
            self.model.to("cpu")

    def _copy_buffers(self) -> None:
        assert self.model is not None
        for average, buffer in zip(self.model.buffers(), self.source.buffers(), strict=True):
            average.copy_(buffer)

    def state_dict(self) -> dict[str, Tensor]:
        """The averages alone: buffers are the model's."""
        return dict(self.averages)

    def load_state_dict(self, state: Mapping[str, Stored]) -> None:
        for name, average in self.averages.items():
            fill(average, state[name])
        if not self.is_sharded:
            self._copy_buffers()
