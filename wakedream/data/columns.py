"""The names of what stands beside the frames, the same in a shard, in the store and in a batch. Imports no torch.

    has_action, rewards, has_reward, terminated, truncated, task     one each
    actions/NAME, events/NAME, extras/NAME                           as many as the data set has
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

Columns = dict[str, np.ndarray]
SEPARATOR = "/"
GROUPS = ("actions", "events", "extras")
KINDS: dict[str, type] = {"has_action": bool, "rewards": np.float32, "has_reward": bool, "terminated": bool,
                          "truncated": bool, "task": np.int64, "events": bool, "extras": np.float32}


def of_actions(column: str) -> bool:
    """Whether a column says what was done."""
    return column == "has_action" or column.startswith("actions" + SEPARATOR)


def flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """{"rewards": r, "actions": {"move": a}} -> {"rewards": r, "actions/move": a}."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= {f"{name}{SEPARATOR}{one}": each for one, each in value.items()} if name in GROUPS else {name: value}
    return found


def nested(columns: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flat`; a group of which there is no column is {}."""
    found: dict[str, Any] = {group: {} for group in GROUPS}
    for name, column in columns.items():
        group, _, rest = name.partition(SEPARATOR)
        if rest:
            found[group][rest] = column
        else:
            found[name] = column
    return found


def unknown(column: str, frames: int) -> np.ndarray:
    """A column, other than an action's, for frames of which nothing is known: nothing came, extras are not a number."""
    group = column.partition(SEPARATOR)[0]
    return np.full(frames, np.nan if group == "extras" else 0, KINDS[group])
