"""Actions beside a video: VIDEO.actions.json, one entry for each frame of the video as it is stored (docs/data.md)."""

import hashlib
import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from wakedream.config import from_dict
from wakedream.data.actions import ActionComponent, Actions, ActionSpec
from wakedream.data.episode import Episode
from wakedream.errors import ConfigError, DataError

SUFFIX = ".actions.json"


@dataclass(frozen=True)
class ActionFile:
    """The file as it is written, not yet checked where it says Any.

    actions  {component: [an entry for each frame]}; entry t led into frame t, null where that is unknown
    rewards  [a number for each frame]; entry t came with frame t, null where that is unknown
    """

    components: tuple[ActionComponent, ...]
    actions: Any
    rewards: Any = None
    terminated: bool = False


@dataclass(frozen=True)
class VideoActions:
    """What a file says of all frames of its video, in the shapes of `Episode`. terminated: at the last frame."""

    spec: ActionSpec
    actions: Actions
    has_action: np.ndarray
    rewards: np.ndarray
    has_reward: np.ndarray
    terminated: bool

    def __len__(self) -> int:
        return len(self.has_action)

    def episode(self, video: np.ndarray, first: int, last: bool, info: dict[str, Any]) -> Episode:
        """Frames `first` and on of the whole, `last`: to its end. What led into the first of them and came with it is
        left out."""
        part = slice(first, first + len(video))
        has_action, rewards, has_reward = (values[part].copy() for values in
                                           (self.has_action, self.rewards, self.has_reward))
        actions = {name: values[part].copy() for name, values in self.actions.items()}
        for values in (has_action, rewards, has_reward, *actions.values()):
            values[0] = 0
        terminated = self.terminated and last
        return Episode(video, actions, has_action, rewards, terminated, not terminated, info=info,
                       has_reward=has_reward)


def actions_beside(video: Path) -> Path:
    """Where the actions of a video are looked for: a/b.mp4 -> a/b.actions.json."""
    return video.with_suffix(SUFFIX)


def digest(path: Path) -> str | None:
    """Of the file's bytes; None when there is no such file."""
    return hashlib.sha256(_bytes(path)).hexdigest() if path.exists() else None


def read_actions(path: Path) -> VideoActions:
    """DataError, with the file's name, what came and what was expected, unless everything in it is right."""
    try:
        values = json.loads(_bytes(path).decode("utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{path} is not JSON ({error})") from None
    try:
        if not isinstance(values, dict):
            raise DataError(f"got {_short(values)}, expected an object with 'components' and 'actions'")
        return _checked(from_dict(ActionFile, values))
    except (ConfigError, DataError) as error:
        raise DataError(f"{path}: {error}") from None


def difference(spec: ActionSpec, expected: ActionSpec) -> str:
    """The first difference of two specs, in words; "" if there is none."""
    names, others = ([component.name for component in one.components] for one in (spec, expected))
    if names != others:
        return f"the action components {names}, expected {others}"
    for mine, other in zip(spec.components, expected.components, strict=True):
        for field in fields(ActionComponent):
            got, wanted = getattr(mine, field.name), getattr(other, field.name)
            if got != wanted:
                return f"the action component '{mine.name}' with {field.name} {got}, expected {wanted}"
    return ""


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): expected the actions of a video") from None


def _checked(file: ActionFile) -> VideoActions:
    names = [component.name for component in file.components]
    if not names:
        raise DataError("no components: expected at least one (a video without actions needs no such file)")
    if not isinstance(file.actions, dict) or set(file.actions) != set(names):
        got = sorted(file.actions) if isinstance(file.actions, dict) else _short(file.actions)
        raise DataError(f"got the actions {got}, expected those of the components {sorted(names)}")
    t = _length({**{f"actions of '{name}'": file.actions[name] for name in names},
                 **({} if file.rewards is None else {"rewards": file.rewards})})
    actions, has_action = {}, np.arange(t) > 0
    for component in file.components:
        actions[component.name], known = _column(component, file.actions[component.name])
        has_action &= known
    for values in actions.values():
        values[~has_action] = 0
    rewards, has_reward = _rewards(file.rewards, t)
    return VideoActions(ActionSpec(file.components), actions, has_action, rewards, has_reward, file.terminated)


def _length(lists: dict[str, Any]) -> int:
    """The length that all of them share, at least one."""
    for name, values in lists.items():
        if not isinstance(values, list) or not values:
            raise DataError(f"{name}: got {_short(values)}, expected a list with an entry for each frame")
    lengths = {name: len(values) for name, values in lists.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {count}" for name, count in lengths.items())
        raise DataError(f"entries: {told}; expected one for each frame everywhere")
    return next(iter(lengths.values()))


def _column(component: ActionComponent, entries: list[Any]) -> tuple[np.ndarray, np.ndarray]:
    """One component's values as stored, and where they are known. Entry 0 led into nothing and is not looked at."""
    column = component.zeros(len(entries))
    known = np.array([False, *(entry is not None for entry in entries[1:])])
    for t in np.flatnonzero(known):
        value = _stored(component, entries[t])
        if value is None:
            raise _impossible(component, int(t), entries[t])
        column[t] = value
    wrong = np.flatnonzero(known & ~component.possible(column))
    if len(wrong):
        raise _impossible(component, int(wrong[0]), entries[wrong[0]])
    return column, known


def _stored(component: ActionComponent, entry: Any) -> np.ndarray | None:
    """An entry as the store keeps it; None when it is of another type or size. Its range is checked elsewhere."""
    if component.kind == "categorical":
        whole = type(entry) is int or (type(entry) is float and entry.is_integer())  # 1.0: a table with gaps wrote it
        return component.encode(int(entry)) if whole and abs(entry) < 2**62 else None
    try:
        array = np.asarray(entry)
    except ValueError:  # lists of several lengths
        return None
    if array.dtype.kind not in "bif" or array.size != component.size:
        return None
    with np.errstate(over="ignore"):  # too large for float32: not finite, told later
        return component.encode(array)


def _impossible(component: ActionComponent, t: int, entry: Any) -> DataError:
    first = component.first
    expected = f"an integer, {first} to {first + component.size - 1}" if component.kind == "categorical" else (
        component.values)
    return DataError(f"action component '{component.name}', frame {t}: got {_short(entry)}, expected {expected}; "
                     "or null, where it is not known")


def _rewards(entries: list[Any] | None, t: int) -> tuple[np.ndarray, np.ndarray]:
    """float32 (t), 0 where it is not known, and where it is: entry 0 came before anything was done."""
    rewards, known = np.zeros(t, np.float32), np.zeros(t, bool)
    for i, entry in enumerate(entries or ()):
        if entry is None:
            continue
        if type(entry) not in (int, float) or not abs(entry) <= float(np.finfo(np.float32).max):
            raise DataError(f"rewards, frame {i}: got {_short(entry)}, expected a finite number; or null, where it is "
                            "not known")
        if i > 0:
            rewards[i], known[i] = entry, True
    return rewards, known


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
