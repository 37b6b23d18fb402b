"""Actions to tokens (paper section 3.2): the embedded components and one learned embedding are summed."""

import functools
import math
import warnings

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from wakedream.data.actions import ActionComponent, ActionSpec
from wakedream.errors import DataError

MU = 10.0  # as Video PreTraining (Baker et al. 2022) has it for the mouse, whose bins the paper takes over


class ActionEmbedding(nn.Module):
    """The action that led into each frame as `num_tokens` tokens of width `dim`.

    Where has_action is False only the learned embedding is left: what stands in `actions` there does not matter.

        categorical  a learned vector for each choice
        binary       a learned vector for each bit, added where it is 1, subtracted where it is 0
        continuous   scaled by low and high to [-1, 1], then a learned vector for each dimension times the number, or
                     with `bins` one vector for each dimension and mu-law bin. Without bounds, and beyond them, values
                     are clipped to [-1, 1]; with one bound, to two units from it

    All of it is one product: the rows of `table` are the vectors, `features` says how much of each. The sum has unit
    variance, as the tokens beside it have: vectors too small are not listened to.
    """

    def __init__(self, spec: ActionSpec, dim: int, num_tokens: int = 1, bins: int | None = None):
        super().__init__()
        self.spec, self.num_tokens, self.bins = spec, num_tokens, bins
        share = 1 / math.sqrt(len(spec.components) + 1)
        self.no_action = nn.Parameter(torch.randn(num_tokens, dim) * share)
        stds = [_stds(component, bins) for component in spec.components]
        rows = torch.cat(stds) * share if stds else torch.empty(0)
        self.table = nn.Parameter(torch.randn(len(rows), num_tokens * dim) * rows[:, None]) if stds else None
        for index, component in enumerate(spec.components):
            if component.kind == "continuous":
                for name, values in zip(("middle", "reach"), _scaling(component), strict=True):
                    self.register_buffer(f"{name}_{index}", values, persistent=False)

    def forward(self, actions: dict[str, Tensor], has_action: Bool[Tensor, "b t"]) -> Float[Tensor, "b t a d"]:
        """Actions as the clips have them, already checked: categorical int64 (b t), else float32 (b t k)."""
        if self.table is None:
            return self.no_action.expand(*has_action.shape, -1, -1)
        features = torch.where(has_action[..., None], self.features(actions), 0)  # not a product: NaN stays out
        embedded = F.linear(features.to(self.table.dtype), self.table.T)
        return embedded.unflatten(-1, (self.num_tokens, -1)) + self.no_action.to(embedded.dtype)

    def features(self, actions: dict[str, Tensor]) -> Float[Tensor, "b t f"]:
        """One number for each row of the table."""
        parts = []
        for index, component in enumerate(self.spec.components):
            values = actions[component.name]
            if component.kind == "categorical":
                parts.append(_one_hot(values, component.size))
            elif component.kind == "binary":
                parts.append(2 * values - 1)
            else:
                parts.append(self._continuous(values, index))
        return torch.cat(parts, dim=-1)

    def _continuous(self, values: Tensor, index: int) -> Tensor:
        scaled = ((values - getattr(self, f"middle_{index}")) / getattr(self, f"reach_{index}")).clamp(-1, 1)
        if self.bins is None:
            return scaled
        return _one_hot(mu_law_bins(scaled, self.bins), self.bins).flatten(-2)


def mu_law_bins(x: Tensor, bins: int, mu: float | int = MU) -> Tensor:
    """Numbers in [-1, 1] to bins 0 .. bins-1, int64, finer near zero (ITU-T G.711's companding, rounded).

    With an odd number of bins the middle one holds zero: 11 bins at mu 10 have it from -0.027 to 0.027 and the last
    from 0.766 on. Symmetric: the bin of -x is bins - 1 - that of x, but for x = 0 with an even number. Values beyond
    -1 and 1 are in the last bins.
    """
    half, even = bins // 2, 1 - bins % 2
    loudness = torch.log1p(mu * x.abs().clamp(max=1)) / math.log1p(mu)
    away = half + (loudness * ((bins - 1) / 2) - even / 2).round().long().clamp(min=0, max=bins - 1 - half)
    return torch.where(x < 0, bins - 1 - away, away)


def check_actions(spec: ActionSpec, actions: dict[str, Tensor], has_action: Tensor) -> None:
    """DataError unless `actions` are those of `spec` for has_action, bool (b t) or of any other shape.

    Names, types and shapes of all components, and the values where has_action is True. For where actions come in: it
    waits for the device.
    """
    if has_action.dtype != torch.bool:
        raise DataError(f"has_action is {has_action.dtype}, expected torch.bool")
    names = [component.name for component in spec.components]
    if set(actions) != set(names):
        raise DataError(f"got the action components {sorted(actions)}, expected {sorted(names)}: lacking "
                        f"{sorted(set(names) - set(actions))}, unknown {sorted(set(actions) - set(names))}")
    for component in spec.components:
        _check_values(component, actions[component.name], has_action)


def impossible(spec: ActionSpec, actions: dict[str, Tensor], has_action: Tensor) -> Tensor:
    """bool (), on the device: whether an action that is known is none of `spec`. DataError for other types and shapes.

    Waits for nothing.
    """
    found = torch.zeros((), dtype=torch.bool, device=has_action.device)
    for component in spec.components:
        values = _shaped(component, actions[component.name], has_action)
        if component.kind == "categorical":
            right = (values >= 0) & (values < component.size)
        elif component.kind == "binary":
            right = ((values == 0) | (values == 1)).all(-1)
        else:
            low, high = _bounds(component, values.device)
            right = (values.isfinite() & (values >= low) & (values <= high)).all(-1)
        found = found | (has_action.to(right.device) & ~right).any()
    return found


@functools.cache
def _bounds(component: ActionComponent, device: torch.device) -> tuple[Tensor, Tensor]:
    """Made once: what comes from the host would have to be waited for."""
    low, high = (torch.tensor(bounds, dtype=torch.float32, device=device) for bounds in component.limits)
    return low, high


def _shaped(component: ActionComponent, values: Tensor, has_action: Tensor) -> Tensor:
    """The values; DataError unless they have the component's type and has_action's shape."""
    chosen = component.kind == "categorical"
    dtype, shape = (torch.int64, has_action.shape) if chosen else (torch.float32, (*has_action.shape, component.size))
    if values.dtype != dtype or values.shape != torch.Size(shape):
        raise DataError(f"action component '{component.name}': got {values.dtype} {tuple(values.shape)}, expected "
                        f"{dtype} {tuple(shape)}")
    return values


def _check_values(component: ActionComponent, values: Tensor, has_action: Tensor) -> None:
    known = _shaped(component, values, has_action).detach()[has_action].cpu()
    wrong = ~torch.from_numpy(component.possible(known.numpy()))
    if wrong.any():
        at = tuple(has_action.nonzero()[int(wrong.nonzero()[0])].tolist())
        raise DataError(f"action component '{component.name}': got {known[wrong][0].tolist()} at {at}, expected "
                        f"{component.values}")


def _one_hot(values: Tensor, size: int) -> Tensor:
    """float32 (... size). Nothing is looked up: what is no choice gives zeros, and the gradient is one product."""
    return (values[..., None] == torch.arange(size, device=values.device)).float()


def _stds(component: ActionComponent, bins: int | None) -> Tensor:
    """A standard deviation for each row of a component's vectors, so that their sum has about unit variance."""
    if component.kind == "categorical":
        return torch.ones(component.size)
    std = 1 / math.sqrt(component.size)
    if component.kind == "binary":
        return torch.full((component.size,), std)
    if bins is None:  # a number drawn evenly from [-1, 1] has variance 1/3
        return torch.full((component.size,), math.sqrt(3) * std)
    return torch.full((component.size * bins,), std)


def _scaling(component: ActionComponent) -> tuple[Tensor, Tensor]:
    """(value - middle) / reach is in [-1, 1]; a dimension with one possible value is 0."""
    if not component.low:
        warnings.warn(f"action component '{component.name}' has no bounds: its values are clipped to [-1, 1]; give it "
                      "low and high if they are larger", stacklevel=3)
    elif None in (*component.low, *component.high):
        warnings.warn(f"action component '{component.name}' has dimensions with one bound or none: their values are "
                      f"clipped to {component.reach[0]} .. {component.reach[1]}; give it low and high if they go "
                      "further", stacklevel=3)
    low, high = (torch.tensor(bounds, dtype=torch.float64) for bounds in component.reach)
    reach = (high - low) / 2
    return ((low + high) / 2).float(), torch.where(reach == 0, 1, reach).float()
