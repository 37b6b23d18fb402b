"""What an action is made of: named components that are categorical, binary or continuous.

A Gymnasium action space becomes a flat list of components. A leaf space alone is named "action"; entries of
a Dict or Tuple are named by key or index, nested ones with a slash ("arm/0"); each entry of a MultiDiscrete
is a component of its own ("action/0"). This file needs no gymnasium.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from wakedream.config import check
from wakedream.errors import DataError

Actions = dict[str, np.ndarray]
LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class ActionComponent:
    """`size` counts choices (categorical), bits (binary) or dimensions (continuous).

    low, high   bounds of a continuous component, None where a dimension has none; () where none has any.
                A categorical component that counts from n instead of 0 has low = (n,)
    labels      names of the choices, bits or dimensions, or ()
    """

    name: str
    kind: Literal["categorical", "binary", "continuous"]
    size: int
    low: tuple[float | None, ...] = ()
    high: tuple[float | None, ...] = ()
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        about = f"action component '{self.name}'"
        check(bool(self.name), "an action component has no name")
        plain = self.name.isprintable() and not {"", ".", ".."} & set(self.name.split("/")) and "\\" not in self.name
        check(plain, f"{about}: expected a name, or names with slashes between (arm/0), not a way through folders")
        check(self.size >= 1, f"{about}: size {self.size}, expected at least 1")
        counted = not self.labels or len(self.labels) == self.size
        check(counted, f"{about}: {len(self.labels)} labels for size {self.size}")
        if self.kind == "categorical":
            first = not self.low or (len(self.low) == 1 and float(self.low[0] or 0).is_integer())
            check(first and not self.high, f"{about}: low {self.low} and high {self.high}, expected as low the number "
                                           "of the first choice, or nothing, and no high")
        elif self.kind == "binary":
            check(not self.low and not self.high, f"{about}: bits have neither low nor high")
        else:
            bounds = len(self.low) == len(self.high) and len(self.low) in (0, self.size)
            finite = all(end is None or np.isfinite(end) for end in (*self.low, *self.high))
            ordered = all(low is None or high is None or low <= high
                          for low, high in zip(self.low, self.high, strict=False))
            check(bounds and finite and ordered,
                  f"{about}: low {self.low} and high {self.high}, expected {self.size} finite numbers each, null where "
                  "a dimension has no bound, or nothing where none has one")

    @property
    def first(self) -> int:
        """The number of the first choice, as the environment counts."""
        return int(self.low[0] or 0) if self.kind == "categorical" and self.low else 0

    @property
    def given_values(self) -> str:
        """As `values`, but choices counted as the environment counts."""
        return f"{self.first} to {self.first + self.size - 1}" if self.kind == "categorical" else self.values

    @property
    def reach(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Low and high of each dimension: two units from its bound where there is but one, -1 to 1 where none."""
        low, high = [], []
        for least, most in zip(*self.limits, strict=True):
            either = np.isfinite(least) or np.isfinite(most)
            low.append(least if np.isfinite(least) else most - 2 if either else -1.0)
            high.append(most if np.isfinite(most) else least + 2 if either else 1.0)
        return tuple(low), tuple(high)

    @property
    def values(self) -> str:
        """What is possible, in words, as stored: choices count from 0."""
        if self.kind == "categorical":
            return f"0 to {self.size - 1}"
        if self.kind == "binary":
            return f"{self.size} of 0 or 1"
        bounds = f", from {list(self.low)} to {list(self.high)}" if self.low else ""
        return f"{self.size} finite numbers{bounds}"

    @property
    def limits(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Low and high of each dimension, infinite where it has none."""
        low = tuple(-np.inf if end is None else end for end in self.low or (None,) * self.size)
        return low, tuple(np.inf if end is None else end for end in self.high or (None,) * self.size)

    def zeros(self, t: int) -> np.ndarray:
        """int64 (t,) if categorical, else float32 (t, size)."""
        return np.zeros(t, np.int64) if self.kind == "categorical" else np.zeros((t, self.size), np.float32)

    def encode(self, value: Any) -> np.ndarray:
        """One action of the environment as int64 () or float32 (size,)."""
        if self.kind == "categorical":
            return np.asarray(int(value) - self.first, np.int64)
        return np.asarray(value, np.float32).reshape(self.size)

    def possible(self, array: np.ndarray) -> np.ndarray:
        """bool (t): which values, as stored, are finite and within the choices, bits or bounds."""
        if self.kind == "categorical":
            return np.asarray((array >= 0) & (array < self.size))
        if self.kind == "binary":
            return np.asarray(np.isin(array, (0, 1)).all(-1))
        low, high = (np.asarray(bounds, np.float32) for bounds in self.limits)  # as values are, so rounded like them
        return np.asarray((np.isfinite(array) & (array >= low) & (array <= high)).all(-1))

    def check(self, array: np.ndarray, t: int) -> None:
        """DataError unless `array` is t values as stored. Bounds are left alone: a placeholder may be outside."""
        expected = self.zeros(t)
        if array.dtype != expected.dtype or array.shape != expected.shape:
            raise DataError(f"action component '{self.name}': got {array.dtype} {array.shape}, "
                            f"expected {expected.dtype} {expected.shape}")
        if self.kind == "categorical" and not ((array >= 0) & (array < self.size)).all():
            raise DataError(f"action component '{self.name}': values {array.min()}..{array.max()}, "
                            f"expected 0..{self.size - 1}")
        if self.kind == "binary" and not np.isin(array, (0, 1)).all():
            raise DataError(f"action component '{self.name}': expected only 0 and 1")
        if not np.isfinite(array).all():
            raise DataError(f"action component '{self.name}': values that are not finite")


@dataclass(frozen=True)
class ActionSpec:
    """The components in order; none for a video without actions. To JSON with config.to_dict."""

    components: tuple[ActionComponent, ...] = ()

    def __post_init__(self) -> None:
        names = [component.name for component in self.components]
        check(len(set(names)) == len(names), f"action components of the same name: {', '.join(names)}")

    @classmethod
    def from_space(cls, space: Any) -> "ActionSpec":
        """The spec of a Gymnasium action space; DataError for spaces other than the six named in the docs."""
        return cls(tuple(_components(space, "")))

    def names_in(self, other: "ActionSpec") -> dict[str, str] | None:
        """Own names to the other's, where its components are the same by kind and size; None where they are not."""
        if [(c.kind, c.size) for c in self.components] != [(c.kind, c.size) for c in other.components]:
            return None
        return {mine.name: theirs.name for mine, theirs in zip(self.components, other.components, strict=True)}

    def placeholder(self, t: int) -> Actions:
        """Zeros for t frames, to be used with has_action False."""
        return {component.name: component.zeros(t) for component in self.components}

    def flatten(self, gym_action: Any) -> Actions:
        """One action of the environment by component: int64 () or float32 (size,)."""
        return {c.name: c.encode(_lookup(gym_action, c.name)) for c in self.components}

    def check(self, actions: Actions, t: int) -> None:
        """DataError unless `actions` holds exactly these components over t frames, with possible values."""
        names = {component.name for component in self.components}
        if set(actions) != names:
            raise DataError(f"got the action components {sorted(actions)}, expected {sorted(names)}")
        for component in self.components:
            component.check(actions[component.name], t)


def action_of(space: Any, values: Mapping[str, Any], name: str = "") -> Any:
    """One action of a Gymnasium space from its components, the inverse of `ActionSpec.flatten`; bounds are kept."""
    kinds, leaf = {cls.__name__ for cls in type(space).__mro__}, name or "action"
    if "Dict" in kinds:
        return {key: action_of(inner, values, _join(name, key)) for key, inner in space.spaces.items()}
    if "Tuple" in kinds:
        return tuple(action_of(inner, values, _join(name, str(i))) for i, inner in enumerate(space.spaces))
    if "Discrete" in kinds:
        return int(values[leaf]) + int(space.start)
    if "MultiDiscrete" in kinds:
        chosen = np.array([int(values[_join(leaf, str(i))]) for i in range(int(np.prod(space.shape)))])
        return (chosen.reshape(space.shape) + getattr(space, "start", 0)).astype(space.dtype)
    array = np.asarray(values[leaf]).reshape(space.shape)
    return array.astype(space.dtype) if "MultiBinary" in kinds else np.clip(array.astype(space.dtype), space.low,
                                                                             space.high)


def in_words(spec: ActionSpec) -> str:
    """The components, each with what is possible in it."""
    return "; ".join(f"'{one.name}', {_possible_in_words(one)}" for one in spec.components) or "none"


def _possible_in_words(component: ActionComponent) -> str:
    if component.kind == "categorical":
        labels = f" ({', '.join(component.labels)})" if component.labels else ""
        return f"{component.size} choices from {component.first}{labels}"
    return f"{component.size} bits" if component.kind == "binary" else component.values


def _components(space: Any, name: str) -> list[ActionComponent]:
    kinds = {cls.__name__ for cls in type(space).__mro__}
    leaf = name or "action"
    if "Dict" in kinds:
        return [c for key, inner in space.spaces.items() for c in _components(inner, _join(name, key))]
    if "Tuple" in kinds:
        return [c for i, inner in enumerate(space.spaces) for c in _components(inner, _join(name, str(i)))]
    if "Discrete" in kinds:
        return [_choice(leaf, space.n, space.start)]
    if "MultiDiscrete" in kinds:
        starts = np.ravel(getattr(space, "start", np.zeros_like(space.nvec)))
        pairs = zip(np.ravel(space.nvec), starts, strict=True)
        return [_choice(_join(leaf, str(i)), size, start) for i, (size, start) in enumerate(pairs)]
    if "MultiBinary" in kinds:
        return [ActionComponent(leaf, "binary", int(np.prod(space.shape)))]
    if "Box" in kinds:
        low, high = (tuple(map(_bound, np.ravel(x))) for x in (space.low, space.high))
        if all(end is None for end in (*low, *high)):
            low = high = ()
        return [ActionComponent(leaf, "continuous", int(np.prod(space.shape)), low, high)]
    raise DataError(f"the action space {space} at '{leaf}' cannot be kept: expected Discrete, MultiDiscrete, "
                    "MultiBinary, Box, Dict or Tuple; wrap the environment to have one of these")


def _bound(end: Any) -> float | None:
    """None where there is none: the largest float stands for that in many spaces."""
    return float(end) if abs(float(end)) < LARGEST else None


def _choice(name: str, size: Any, start: Any) -> ActionComponent:
    return ActionComponent(name, "categorical", int(size), low=(float(start),) if start else ())


def _join(name: str, key: Any) -> str:
    if not isinstance(key, str) or "/" in key:
        raise DataError(f"the action {key!r}: expected a text without slashes as name; wrap the environment")
    return f"{name}/{key}" if name else key


def _lookup(action: Any, name: str) -> Any:
    parts = name.split("/")
    if parts[0] == "action" and not isinstance(action, dict):
        parts = parts[1:]  # the space is a leaf
    for part in parts:
        if isinstance(action, dict):
            action = action[part]
        else:
            action = action[int(part)] if isinstance(action, (tuple, list)) else np.ravel(action)[int(part)]
    return action
