"""What an environment gives beside its picture, as plain numbers: rewards, ends, extras, events."""

import warnings
from typing import Any

import numpy as np

from wakedream.errors import DataError


def single(value: Any, what: str) -> Any:
    """The number, or the only one of an array; DataError otherwise."""
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "biuf":
        got = f"an array of the shape {array.shape}" if array.ndim else repr(value)
        raise DataError(f"{what} is {got}, expected one number: wrap the environment to give that")
    return array.item()


def offered(info: dict[str, Any]) -> dict[str, Any]:
    """Only what an environment offers to be kept: numbers and events by name, and whether the reward is known.

    What stands among them and is neither is left out; a warning names it once.
    """
    found: dict[str, Any] = {}
    for key, is_one, what in (("extras", _is_number, "number"), ("events", _is_bool, "bool")):
        if isinstance(info.get(key), dict):
            found[key] = {name: single(value, name) for name, value in info[key].items() if is_one(value)}
            if wrong := sorted(map(str, info[key].keys() - found[key].keys())):
                warnings.warn(f"info['{key}'] holds what is not kept, since it is no {what}: {', '.join(wrong)}",
                              stacklevel=2)
    if _is_bool(info.get("reward_known")):
        found["reward_known"] = bool(single(info["reward_known"], "reward_known"))
    return found


def _is_number(value: Any) -> bool:
    array = isinstance(value, np.ndarray) and value.size == 1 and value.dtype.kind in "biuf"
    return array or isinstance(value, (int, float, np.integer, np.floating, np.bool_))


def _is_bool(value: Any) -> bool:
    array = isinstance(value, np.ndarray) and value.size == 1 and value.dtype.kind == "b"
    return array or isinstance(value, (bool, np.bool_))
