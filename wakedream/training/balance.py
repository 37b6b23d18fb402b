"""Losses of different size brought to unit scale before they are weighted and added."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

DECAY, FLOOR = 0.99, 1e-6
Reduce = Callable[[Tensor], Tensor]


class LossBalance:
    """Each loss divided by the root of a running mean of its square (docs/paper.md).

        mean <- 0.99 mean + 0.01 loss^2   bias-corrected, current value included, detached
        total = sum of weight * loss / max(sqrt(mean), floor)   floor: of the term, or 1e-6

    Call it on the losses of every batch of a step, then `update` once. With several batches per step
    (accumulation) the divisor of a term is fixed at the first batch that has it: the running mean with that
    batch's value as the current one, reduced over ranks. So one step's batches all weigh the same. `update`
    then takes the mean of the term over all of the step's batches into the running mean. With one batch per
    step both are the same number. A term absent from a step leaves its mean as it is; a value that is not
    finite does too. A term of weight 0 is only logged. Nothing here waits for the device. All ranks must have
    the same terms.
    """

    def __init__(self, weights: Mapping[str, float], mean_over_ranks: Reduce = lambda x: x,
                 floors: Mapping[str, float] = MappingProxyType({})):
        self.weights, self.mean_over_ranks, self.floors = weights, mean_over_ranks, floors
        self.running: dict[str, Tensor] = {}  # name -> (mean of squares, its weight so far)
        self.divisors: dict[str, Tensor] = {}
        self.seen: dict[str, list[Tensor]] = {}

    def __call__(self, losses: Mapping[str, Tensor]) -> Tensor:
        """The weighted total of one batch, to be differentiated."""
        assert losses.keys() <= self.weights.keys(), (list(losses), list(self.weights))
        values = self.mean_over_ranks(torch.stack([loss.detach().float() for loss in losses.values()]))
        terms = []
        for (name, loss), value in zip(losses.items(), values.unbind(), strict=True):
            self.seen.setdefault(name, []).append(value)
            if not self.weights[name]:
                continue
            if name not in self.divisors:
                mean, weight = self._included(name, value).unbind()
                self.divisors[name] = (mean / weight).sqrt().clamp_min(max(self.floors.get(name, 0.0), FLOOR))
            terms.append(self.weights[name] * loss.float() / self.divisors[name])
        return torch.stack(terms).sum()

    def update(self) -> dict[str, Tensor]:
        """End the step. Returns each term's mean over batches and ranks, and their balanced total `loss`."""
        values = {name: torch.stack(seen).mean() for name, seen in self.seen.items()}
        for name in self.divisors:
            value = values[name]
            included = self._included(name, value)
            old = self.running.setdefault(name, torch.zeros_like(included))
            old.copy_(torch.where(value.isfinite(), included, old))  # in place: a recorded step reads it again
        terms = [self.weights[name] * values[name] / divisor for name, divisor in self.divisors.items()]
        self.divisors, self.seen = {}, {}
        return {"loss": torch.stack(terms).sum(), **values}

    def _included(self, name: str, value: Tensor) -> Tensor:
        new = torch.stack([value.square(), torch.ones_like(value)])
        old = self.running.get(name)
        return torch.lerp(torch.zeros_like(new) if old is None else old, new, 1 - DECAY)

    def state_dict(self) -> dict[str, Tensor]:
        return dict(self.running)

    def load_state_dict(self, state: Mapping[str, Tensor], device: torch.device) -> None:
        self.running = {name: tensor.to(device) for name, tensor in state.items()}
