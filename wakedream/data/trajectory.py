"""What was done and what came of it, frame by frame: one record from the store to the batch, for pixels and latents."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from wakedream.data.columns import Columns, flat, nested, of_actions

__all__ = ["Actions", "Columns", "Moved", "Recorded", "Trajectory", "joined", "of_actions", "stacked"]

Actions = dict[str, Tensor]
M = TypeVar("M", bound="Moved")  # not Self, which the check of shapes does not know in methods


class Moved:
    """A dataclass of tensors, of tensors by name and of others like it, all (b t ...): treated as one."""

    def map(self: M, function: Callable[[Tensor], Tensor]) -> M:
        """The same with `function` of every tensor."""
        return _map(self, function)

    def tensors(self) -> list[Tensor]:
        found: list[Tensor] = []
        self.map(lambda tensor: found.append(tensor) or tensor)  # type: ignore[func-returns-value]
        return found

    def to(self: M, device: torch.device | str, non_blocking: bool = False) -> M:
        return self.map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self: M) -> M:
        return self.map(lambda tensor: tensor.pin_memory())

    def rows(self: M, rows: Tensor | slice) -> M:
        """Some of the b rows, each on the device where it is."""
        return self.map(lambda tensor: tensor[rows.to(tensor.device) if isinstance(rows, Tensor) else rows])

    def frames(self: M, frames: slice) -> M:
        """Some of the t frames."""
        return self.map(lambda tensor: tensor[:, frames])


def _map(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, dict):
        return {name: _map(one, function) for name, one in value.items()}
    return dataclasses.replace(value, **{f.name: _map(getattr(value, f.name), function)
                                         for f in dataclasses.fields(value)})


def joined(parts: Sequence[Any], dim: int = 0) -> Any:
    """Records of one kind and the same columns, one after the other: rows (dim 0) or frames (dim 1)."""
    first = parts[0]
    if isinstance(first, Tensor):
        return torch.cat(list(parts), dim=dim)
    if isinstance(first, dict):
        return {name: joined([part[name] for part in parts], dim) for name in first}
    return dataclasses.replace(first, **{f.name: joined([getattr(part, f.name) for part in parts], dim)
                                         for f in dataclasses.fields(first)})


@dataclass
class Trajectory(Moved):
    """b rows of t frames. What led INTO a frame, and what arrived WITH it.

    actions      by component name: categorical int64 (b t), binary / continuous float32 (b t k); {} if none.
                 actions[:, t] led into frame t
    has_action   bool (b t): False at an episode's first frame and wherever the action is unknown or withheld
    rewards      float32 (b t), 0 where it is unknown; rewards[:, t] arrived with frame t
    has_reward   bool (b t): whether it is known; False at an episode's first frame
    terminated   bool (b t): the episode ended for good at this frame
    truncated    bool (b t): it was cut there, by a time limit or otherwise. Never both
    events       bool (b t) by name: what happened at this frame; a task's reward follows from task and events
    task         int64 (b t): which task was played, 0 where there is but one
    extras       float32 (b t) by name: numbers that belong to the frame, for example Crafter's daylight
    """

    actions: Actions
    has_action: Bool[Tensor, "b t"]
    rewards: Float[Tensor, "b t"]
    has_reward: Bool[Tensor, "b t"]
    terminated: Bool[Tensor, "b t"]
    truncated: Bool[Tensor, "b t"]
    events: dict[str, Tensor] = field(default_factory=dict)
    task: Int[Tensor, "b t"] = None  # type: ignore[assignment]
    extras: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.task is None:
            self.task = torch.zeros_like(self.has_action, dtype=torch.int64)

    @classmethod
    def of_actions(cls, actions: Actions, has_action: Bool[Tensor, "b t"]) -> "Trajectory":
        """Where nothing else is known."""
        never = torch.zeros_like(has_action)
        return cls(dict(actions), has_action, torch.zeros_like(has_action, dtype=torch.float32), never, never.clone(),
                   never.clone())

    @classmethod
    def of_columns(cls, columns: Mapping[str, Tensor]) -> "Trajectory":
        """From tensors by column name: "has_action", "actions/move", "extras/daylight"."""
        return cls(**nested(columns))

    def columns(self) -> dict[str, Tensor]:
        """The inverse of `of_columns`."""
        return flat({f.name: getattr(self, f.name) for f in dataclasses.fields(self)})

    def with_actions(self, actions: Actions, has_action: Tensor | None = None) -> "Trajectory":
        """The same with other actions, and what is known of them if given."""
        return dataclasses.replace(self, actions=actions,
                                   has_action=self.has_action if has_action is None else has_action)


def stacked(rows: Sequence[Columns]) -> Trajectory:
    """From the columns of each row, all of one length."""
    return Trajectory.of_columns({name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in rows[0]})


class Recorded(Moved):
    """What carries a trajectory shows its parts as its own: clip.actions, clip.has_action and so on."""

    trajectory: Trajectory

    @property
    def actions(self) -> Actions:
        return self.trajectory.actions

    @property
    def has_action(self) -> Tensor:
        return self.trajectory.has_action

    @property
    def rewards(self) -> Tensor:
        return self.trajectory.rewards

    @property
    def has_reward(self) -> Tensor:
        return self.trajectory.has_reward

    @property
    def terminated(self) -> Tensor:
        return self.trajectory.terminated

    @property
    def truncated(self) -> Tensor:
        return self.trajectory.truncated

    @property
    def events(self) -> dict[str, Tensor]:
        return self.trajectory.events

    @property
    def task(self) -> Tensor:
        return self.trajectory.task

    @property
    def extras(self) -> dict[str, Tensor]:
        return self.trajectory.extras
