"""Plain arrays to what stands beside an episode's frames: one meaning for all who bring arrays of their own.

An array has an entry for each of the t frames, entry i led INTO frame i (came WITH it), or t - 1 entries, of which
entry i lies between frames i and i + 1: what was done AT frame i, without what was done at the last, which led nowhere.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from wakedream.data.actions import ActionComponent, ActionSpec
from wakedream.data.columns import Columns, flat
from wakedream.errors import DataError


def plain_columns(spec: ActionSpec, t: int, actions: Mapping[str, Any] | None = None, *, has_action: Any = None,
                  rewards: Any = None, has_reward: Any = None, task: Any = 0, events: Mapping[str, Any] | None = None,
                  extras: Mapping[str, Any] | None = None) -> Columns:
    """The columns of an episode of t frames, in the types of `Episode`.

    actions                  by component: choices (n), counted as the component counts; bits or numbers (n k). None:
                             not known
    has_action, has_reward   bool (n): where it is known; default: everywhere, if it is given at all
    rewards, events          (n); task: a number or (t); extras: (t)

    n is t or t - 1, see above. DataError when an array has another length, or values that its component cannot have.
    """
    first = np.arange(t) > 0
    known = first & _flags("has_action", has_action, t, actions is not None)
    paid = first & _flags("has_reward", has_reward, t, rewards is not None)
    given = spec.placeholder(t) if actions is None else {
        name: _aligned(f"the actions '{name}'", values, t) for name, values in actions.items()}
    columns = {component.name: _stored(component, given.pop(component.name), known)
               for component in spec.components if component.name in given}
    if given or len(columns) < len(spec.components):
        raise DataError(f"got the actions {sorted(actions or {})}, expected those of the components "
                        f"{sorted(component.name for component in spec.components)}")
    reward = np.zeros(t, np.float32) if rewards is None else _numbers("rewards", _aligned("rewards", rewards, t))
    return flat({
        "has_action": known, "rewards": np.where(paid, reward, 0).astype(np.float32), "has_reward": paid,
        "task": np.full(t, task, np.int64) if np.ndim(task) == 0 else _each("task", task, t).astype(np.int64),
        "actions": columns,
        "events": {name: first & _aligned(f"the event '{name}'", values, t).astype(bool)
                   for name, values in (events or {}).items()},
        "extras": {name: _numbers(name, _each(f"the extra '{name}'", values, t))
                   for name, values in (extras or {}).items()}})


def _aligned(name: str, values: Any, t: int) -> np.ndarray:
    """t entries, the first of which means nothing."""
    array = np.asarray(values)
    length = len(array) if array.ndim else None
    if length == t:
        return array
    if length == t - 1:
        return np.concatenate([np.zeros((1, *array.shape[1:]), array.dtype), array])
    raise DataError(f"{name}: {'one value' if length is None else f'{length} entries'} for {t} frames; expected {t}, "
                    f"where entry i led into frame i, or {t - 1}, between the frames")


def _each(name: str, values: Any, t: int) -> np.ndarray:
    array = np.asarray(values)
    if array.shape != (t,):
        raise DataError(f"{name}: an array {array.shape}, expected one value for each of the {t} frames")
    return array


def _flags(name: str, values: Any, t: int, default: bool) -> np.ndarray:
    return np.full(t, default) if values is None else _aligned(name, values, t).astype(bool)


def _numbers(name: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind not in "bif" and array.dtype.kind != "u":
        raise DataError(f"{name}: values of type {array.dtype}, expected numbers")
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise DataError(f"{name}: an array {array.shape}, expected one number for each frame")
    return array.astype(np.float32)


def _stored(component: ActionComponent, array: np.ndarray, known: np.ndarray) -> np.ndarray:
    """As the store keeps it: zeros where it is not known."""
    stored = component.zeros(len(array))
    if array.dtype.kind not in "biuf" or array[0].size * len(array) != stored.size:
        raise DataError(f"the actions '{component.name}': {array.dtype} {array.shape}, expected {component.values} "
                        "for each frame")
    given = array.reshape(stored.shape)
    if component.kind == "categorical":
        if (given[known] != np.floor(given[known])).any():
            raise DataError(f"the actions '{component.name}': numbers that are not whole, expected choices")
        stored[known] = given[known].astype(np.int64) - component.first
    else:
        stored[known] = given[known]
    wrong = np.flatnonzero(known & ~_storable(component, stored))
    if len(wrong):
        raise DataError(f"the actions '{component.name}', frame {wrong[0]}: got {given[wrong[0]]}, expected "
                        f"{component.given_values}")
    return stored


def _storable(component: ActionComponent, stored: np.ndarray) -> np.ndarray:
    """bool (t). Numbers outside their bounds may be kept: the bounds only say what a model is to tell apart."""
    return np.isfinite(stored).all(-1) if component.kind == "continuous" else component.possible(stored)
