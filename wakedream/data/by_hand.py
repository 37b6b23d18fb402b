"""A data set written from Python, from arrays."""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from wakedream.data.actions import ActionSpec
from wakedream.data.episode import Episode
from wakedream.data.plain import plain_columns
from wakedream.data.writer import StoreWriter
from wakedream.errors import DataError


class Writer:
    """Writes episodes to a folder that `train`, `inspect` and `Store.open` read.

        with Writer("DATA", frame_shape=(64, 64, 3), actions=spec) as writer:
            writer.add(frames, {"move": moves}, rewards=rewards, terminated=True)

    frame_shape  height, width, channels of all frames
    actions      an ActionSpec, a Gymnasium action space, or None where no actions are known
    held_out     share of the episodes kept for evaluation
    info         JSON values: where the data set comes from

    A folder that was written before is continued: `len(writer)` episodes are in it. Whole shards are on disk at once,
    the rest when the context is left, by an error too; no episode is ever in by halves. DataError when the folder
    holds something else, or a data set of another shape or other actions.
    """

    def __init__(self, path: Path | str, *, frame_shape: tuple[int, int, int], actions: Any = None,
                 held_out: float | int = 0.1, info: dict[str, Any] | None = None):
        spec = actions if isinstance(actions, ActionSpec) else (
            ActionSpec() if actions is None else ActionSpec.from_space(actions))
        self._store = StoreWriter(path, spec, frame_shape=frame_shape, held_out=held_out, info=info)

    @property
    def spec(self) -> ActionSpec:
        return self._store.header.actions

    def __len__(self) -> int:
        """Episodes, those of an earlier call included."""
        return self._store.num_episodes

    def add(self, frames: Any, actions: Mapping[str, Any] | None = None, *, rewards: Any = None, has_action: Any = None,
            has_reward: Any = None, terminated: bool = False, task: Any = 0, events: Mapping[str, Any] | None = None,
            extras: Mapping[str, Any] | None = None, info: dict[str, Any] | None = None) -> None:
        """One whole episode, from its first frame to its last.

        frames      uint8 (t h w c)
        actions     by component: choices (n), bits or numbers (n k); None: not known
        rewards     (n); has_action, has_reward: bool (n), where they are known, default everywhere if given
        terminated  it truly ended at the last frame; else it was cut there
        task        which task was played, a number or (t); events: bool (n) by name; extras: numbers (t) by name
        info        JSON values that stay with the episode

        n is t, entry i led into frame i (entry 0 is not looked at), or t - 1, entry i between frames i and i + 1. What
        was taken AT each of t frames is given as `values[:-1]`. DataError when something does not fit; nothing of the
        episode is kept then.
        """
        video = np.asarray(frames)
        if video.ndim != 4 or len(video) == 0:
            raise DataError(f"an episode's frames are an array {video.shape}, expected uint8 (t h w c)")
        columns = plain_columns(self.spec, len(video), actions, has_action=has_action, rewards=rewards,
                                has_reward=has_reward, task=task, events=events, extras=extras)
        self._store.add(Episode.of_columns(video, columns, terminated, not terminated, info or {}))

    def close(self) -> None:
        self._store.close()

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._store.__exit__(kind, error, trace)
