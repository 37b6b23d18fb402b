"""What heads put out, as distributions: numbers over two-hot bins, actions as independent choices."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from wakedream.data.actions import ActionComponent, ActionSpec
from wakedream.data.trajectory import Actions


def symlog(x: Tensor) -> Tensor:
    return x.sign() * x.abs().log1p()


def symexp(x: Tensor) -> Tensor:
    return x.sign() * x.abs().expm1()


class TwoHot(nn.Module):
    """Numbers as weights of the two bins beside them; bins evenly spaced in symlog (Hafner et al. 2023, section 3).

    centres: float32 (bins), from -symexp(limit) to symexp(limit), one of them 0. What lies beyond the outermost bin
    counts as that bin.
    """

    centres: Tensor

    def __init__(self, bins: int, limit: float):
        super().__init__()
        half = symexp(torch.linspace(0, limit, bins // 2 + 1, dtype=torch.float64))
        self.register_buffer("centres", torch.cat([-half[1:].flip(0), half]).float(), persistent=False)

    def mean(self, logits: Float[Tensor, "*b n"]) -> Float[Tensor, "*b"]:
        """The expected number. Bins of opposite sign are taken together, so that equal weights give exactly 0."""
        weights = logits.float().softmax(-1)
        half = len(self.centres) // 2
        return ((weights[..., half + 1:] - weights[..., :half].flip(-1)) * self.centres[half + 1:]).sum(-1)

    def loss(self, logits: Float[Tensor, "*b n"], target: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """Cross-entropy to the two-hot target."""
        target = target.float().clamp(self.centres[0], self.centres[-1])
        above = torch.searchsorted(self.centres, target.contiguous()).clamp(1, len(self.centres) - 1)
        low, high = self.centres[above - 1], self.centres[above]
        share = (target - low) / (high - low)
        logs = logits.float().log_softmax(-1)
        at_low, at_high = (logs.gather(-1, index.unsqueeze(-1)).squeeze(-1) for index in (above - 1, above))
        return -((1 - share) * at_low + share * at_high)


@dataclass(frozen=True)
class Part:
    """An action component as `groups` independent choices of `choices` each."""

    component: ActionComponent
    groups: int
    choices: int

    @property
    def name(self) -> str:
        return self.component.name

    @property
    def width(self) -> int:
        return self.groups * self.choices


def parts_of(spec: ActionSpec, bins: int) -> tuple[Part, ...]:
    """categorical: one choice; binary: one of two for each bit; continuous: one of `bins` for each dimension."""
    kinds = {"categorical": lambda c: (1, c.size), "binary": lambda c: (c.size, 2),
             "continuous": lambda c: (c.size, bins)}
    return tuple(Part(c, *kinds[c.kind](c)) for c in spec.components)


class ActionCodec(nn.Module):
    """Actions as choices by number and back. centres: of the bins of continuous components, evenly from low to high,
    ends included; where a dimension has no bounds, `fit` takes them from what was played."""

    def __init__(self, spec: ActionSpec, bins: int):
        super().__init__()
        self.parts = parts_of(spec, bins)
        for part in self.parts:
            if part.component.kind == "continuous":
                low, high = (torch.tensor(ends) for ends in part.component.reach)
                steps = torch.linspace(0, 1, bins)
                self.register_buffer(_buffer(part), low[:, None] + (high - low)[:, None] * steps)

    def centres(self, part: Part) -> Float[Tensor, "groups choices"]:
        return getattr(self, _buffer(part))

    @torch.no_grad()
    def fit(self, actions: dict[str, Tensor]) -> None:
        """Bins of dimensions without bounds at even quantiles of these actions (n k), by component."""
        for part in self.parts:
            if part.component.kind != "continuous" or not len(actions[part.name]):
                continue
            free = ~torch.isfinite(torch.tensor(part.component.limits)).all(0)
            at = torch.linspace(0, 1, part.choices)
            for dimension in free.nonzero().flatten().tolist():
                column = actions[part.name][:, dimension].float().cpu()
                self.centres(part)[dimension] = column.quantile(at)

    def numbers(self, part: Part, values: Tensor) -> Int[Tensor, "*b groups"]:
        """Which choices these values are: of continuous ones the nearest bin."""
        if part.component.kind == "categorical":
            return values.unsqueeze(-1)
        if part.component.kind == "binary":
            return values.long()
        return (values.unsqueeze(-1) - self.centres(part)).abs().argmin(-1)

    def values(self, part: Part, numbers: Int[Tensor, "*b groups"]) -> Tensor:
        """int64 (*b) or float32 (*b k), as the world is fed them."""
        if part.component.kind == "categorical":
            return numbers.squeeze(-1)
        if part.component.kind == "binary":
            return numbers.float()
        return self.centres(part)[torch.arange(part.groups, device=numbers.device), numbers]


class ActionDistribution:
    """Independent choices, each mixed with a share of the uniform one.

    logits (*b n): the parts' one after the other. log_probs: by component, (*b groups choices), float32.
    """

    def __init__(self, codec: ActionCodec, logits: Float[Tensor, "*b n"], uniform: float):
        self.codec = codec
        self.log_probs: dict[str, Tensor] = {}
        logs = logits.float().split([part.width for part in codec.parts], dim=-1)
        for part, piece in zip(codec.parts, logs, strict=True):
            wide = piece.unflatten(-1, (part.groups, part.choices)).log_softmax(-1)
            floor = wide.new_full((), math.log(uniform / part.choices))
            self.log_probs[part.name] = torch.logaddexp(wide + math.log1p(-uniform), floor)

    def log_prob(self, actions: Actions) -> Float[Tensor, "*b"]:
        """Summed over the choices."""
        total: Tensor | int = 0
        for part in self.codec.parts:
            chosen = self.codec.numbers(part, actions[part.name]).unsqueeze(-1)
            total = total + self.log_probs[part.name].gather(-1, chosen).sum((-2, -1))
        return self._all(total)

    def kl(self, other: "ActionDistribution") -> Float[Tensor, "*b"]:
        """KL(self || other), summed over the choices."""
        total: Tensor | int = 0
        for name, logs in self.log_probs.items():
            total = total + (logs.exp() * (logs - other.log_probs[name])).sum((-2, -1))
        return self._all(total)

    def entropy(self) -> Float[Tensor, "*b"]:
        return self._all(sum(-(logs.exp() * logs).sum((-2, -1)) for logs in self.log_probs.values()))

    def sample(self, numbers: Tensor) -> Actions:
        """numbers (*b groups of all parts), evenly in (0, 1): the same ones choose the same."""
        pieces = numbers.split([part.groups for part in self.codec.parts], dim=-1)
        chosen = {}
        for part, piece in zip(self.codec.parts, pieces, strict=True):
            below = self.log_probs[part.name].exp().cumsum(-1)[..., :-1]
            index = (below < piece.unsqueeze(-1).to(below.dtype)).sum(-1)
            chosen[part.name] = self.codec.values(part, index)
        return chosen

    def greedy(self) -> Actions:
        """The likeliest of each."""
        return {part.name: self.codec.values(part, self.log_probs[part.name].argmax(-1)) for part in self.codec.parts}

    @property
    def groups(self) -> int:
        return sum(part.groups for part in self.codec.parts)

    @staticmethod
    def _all(total: Tensor | int) -> Tensor:
        assert isinstance(total, Tensor), "an agent needs actions"
        return total


def _buffer(part: Part) -> str:
    return "centres_" + part.name.replace("/", "_").replace(".", "_")
