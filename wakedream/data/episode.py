"""One episode: what an environment, or a stretch of video, gave from its first frame to its last."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from wakedream.data.actions import Actions, ActionSpec
from wakedream.data.columns import Columns, flat, nested
from wakedream.errors import DataError


@dataclass
class Episode:
    """`actions[t]` led into `video[t]`; index 0 is a placeholder with has_action False.

    video       uint8 (t h w c)
    actions     by component name: categorical int64 (t), binary / continuous float32 (t k); {} if none
    has_action  bool (t); a video without actions has it all False
    rewards     float32 (t); rewards[t] arrived with video[t], 0 where it is not known
    terminated  the episode truly ended at its last frame; truncated: it was cut there (time limit)
    extras      per-frame numbers by name, float32 (t)
    info        JSON values: where the episode comes from, its seed, its policy
    has_reward  bool (t): whether the reward is known, never at index 0; where it is not said, as has_action
    events      bool (t) by name: what happened at this frame, nothing at index 0
    task        int64 (t): which task was played; a single number is that of all frames, and becomes an array
    """

    video: np.ndarray
    actions: Actions
    has_action: np.ndarray
    rewards: np.ndarray
    terminated: bool
    truncated: bool
    extras: dict[str, np.ndarray] = field(default_factory=dict)
    info: dict[str, Any] = field(default_factory=dict)
    has_reward: np.ndarray = None  # type: ignore[assignment]
    events: dict[str, np.ndarray] = field(default_factory=dict)
    task: np.ndarray | int = 0

    def __post_init__(self) -> None:
        if self.has_reward is None:
            self.has_reward = self.has_action.copy()
        if not isinstance(self.task, np.ndarray):
            self.task = np.full(len(self.video), self.task, np.int64)

    def __repr__(self) -> str:
        t, h, w, c = self.video.shape
        end = "terminated" if self.terminated else "truncated" if self.truncated else "goes on"
        earned = f"return {self.rewards.sum():.4g}" if self.has_reward.any() else "rewards not known"
        parts = [f"{t} frames of {h}x{w}x{c}", f"actions {', '.join(self.actions) or 'none'}", earned, end,
                 *(f"{kind} {', '.join(names)}" for kind, names in (("events", self.events), ("extras", self.extras))
                   if names)]
        return f"Episode({'; '.join(parts)})"

    @classmethod
    def of_columns(cls, video: np.ndarray, columns: Mapping[str, np.ndarray], terminated: bool, truncated: bool,
                   info: dict[str, Any]) -> "Episode":
        """columns: as `columns` gives them."""
        return cls(video, terminated=terminated, truncated=truncated, info=info, **nested(columns))

    def columns(self) -> Columns:
        """All that stands beside the frames, by the names of `data.columns`, without how the episode ended."""
        return flat({name: getattr(self, name)
                     for name in ("has_action", "rewards", "has_reward", "task", "actions", "events", "extras")})

    @classmethod
    def of_video(cls, video: np.ndarray, spec: ActionSpec | None = None, **info: Any) -> "Episode":
        """Frames without actions or rewards, cut from a longer whole."""
        t = len(video)
        actions = (spec or ActionSpec()).placeholder(t)
        return cls(video, actions, np.zeros(t, bool), np.zeros(t, np.float32), False, True, info=info)

    def check(self, spec: ActionSpec, frame_shape: tuple[int, int, int]) -> None:
        """DataError unless this is a whole episode of `spec` in the shapes above, frames (height, width, channels)."""
        if self.video.dtype != np.uint8 or self.video.ndim != 4 or len(self.video) == 0:
            raise DataError(f"an episode's video is {self.video.dtype} {self.video.shape}, "
                            "expected uint8 (t, h, w, c) with at least one frame")
        if self.video.shape[1:] != frame_shape:
            raise DataError(f"an episode has frames of {self.video.shape[1:]} (height, width, channels), the data set "
                            f"has {frame_shape}")
        t = len(self.video)
        _check_array("has_action", self.has_action, bool, t)
        _check_array("rewards", self.rewards, np.float32, t)
        _check_array("has_reward", self.has_reward, bool, t)
        _check_array("task", self.task, np.int64, t)
        for name, values in self.extras.items():
            _check_array(f"extra '{name}'", values, np.float32, t)
        for name, values in self.events.items():
            _check_array(f"event '{name}'", values, bool, t)
        spec.check(self.actions, t)
        self._check_what_came()
        try:
            json.dumps(self.info)
        except TypeError as error:
            raise DataError(f"an episode's info holds what JSON cannot ({error})") from error

    def _check_what_came(self) -> None:
        if self.has_action[0]:
            raise DataError("has_action[0] is True: no action led into an episode's first frame")
        if self.has_reward[0]:
            raise DataError("has_reward[0] is True: no reward came with an episode's first frame")
        if not np.isfinite(self.rewards).all():
            raise DataError("an episode's rewards are not finite")
        for t in np.flatnonzero(~self.has_reward & (self.rewards != 0)):
            raise DataError(f"an episode's rewards[{t}] is {self.rewards[t]:g} but has_reward[{t}] is False: expected "
                            "0 where the reward is not known")
        if early := [name for name, values in self.events.items() if values[0]]:
            raise DataError(f"the event '{early[0]}' is True at index 0: nothing happened before an episode's first "
                            "frame")


def _check_array(name: str, array: Any, dtype: type, t: int) -> None:
    if array.dtype != dtype or array.shape != (t,):
        raise DataError(f"an episode's {name}: {array.dtype} {array.shape}, expected {dtype.__name__} ({t},)")
