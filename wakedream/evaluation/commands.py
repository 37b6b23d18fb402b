"""Actions that are held throughout a dream: those a player would press, or such as the data holds."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from wakedream.config import suggest
from wakedream.data.actions import ActionComponent, ActionSpec
from wakedream.data.store import Store
from wakedream.environments.registry import commanded, environment
from wakedream.errors import ConfigError
from wakedream.progress import counted

MOST = 5
Held = dict[str, np.ndarray]  # one action by component, as stored


def commands(spec: ActionSpec, store: Store) -> dict[str, Held]:
    """Up to 5 actions by name; {} without actions.

    A known environment's moves; else values of the first component, all others 0: the choices that held-out episodes
    take most often, each bit alone, each dimension at either end.
    """
    name = store.manifest.header.info.get("env", "")
    if name in commanded():
        return {command: spec.flatten(action) for command, action in environment(name).commands.items()}
    if not spec.components:
        return {}
    first = spec.components[0]
    values = _usual(first, store) if first.kind == "categorical" else _extremes(first)
    return {name: {**nothing(spec), first.name: value} for name, value in list(values.items())[:MOST]}


def others(spec: ActionSpec, shown: int) -> str:
    """In words, what could be held beside so many `commands`; "" where they are all that there is."""
    if not spec.components:
        return ""
    first, *rest = spec.components
    values = first.size if first.kind == "categorical" else 1 + first.size * (1 if first.kind == "binary" else 2)
    few = f"only {shown} of {values} that '{first.name}' has are shown" if shown < values else ""
    still = f"the other {counted(len(rest), 'components')} stay{'s' * (len(rest) == 1)} at 0" if rest else ""
    return "; ".join(filter(None, (few, still)))


def nothing(spec: ActionSpec) -> Held:
    """All components 0."""
    return {name: np.asarray(zeros[0]) for name, zeros in spec.placeholder(1).items()}


def held(action: Held, rows: int, frames: int) -> dict[str, Tensor]:
    """The action for all rows and frames: int64 (b t) or float32 (b t k)."""
    return {name: torch.from_numpy(np.broadcast_to(value, (rows, frames, *value.shape)).copy())
            for name, value in action.items()}


def parse(spec: ActionSpec, words: tuple[str, ...]) -> Held:
    """From NAME=VALUE words; ConfigError for a component or a value that there is not."""
    action, names = nothing(spec), {component.name: component for component in spec.components}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise ConfigError(f"--actions {word}: expected true, random or NAME=VALUE; NAME one of "
                              f"{', '.join(names) or 'none: the model has no actions'}")
        if name not in names:
            raise suggest("action component", name, names)
        action[name] = _value(names[name], text)
    return action


def random_actions(spec: ActionSpec, rows: int, frames: int, kept: int, seed: int) -> dict[str, Tensor]:
    """Drawn evenly, each kept for `kept` frames; numbers within their `reach`."""
    rng, draws = np.random.default_rng(seed), -(-frames // kept)
    found: dict[str, Tensor] = {}
    for component in spec.components:
        if component.kind == "continuous":
            drawn: Any = rng.uniform(*component.reach, (rows, draws, component.size)).astype(np.float32)
        elif component.kind == "binary":
            drawn = rng.integers(0, 2, (rows, draws, component.size)).astype(np.float32)
        else:
            drawn = rng.integers(0, component.size, (rows, draws))
        found[component.name] = torch.from_numpy(np.repeat(drawn, kept, axis=1)[:, :frames].copy())
    return found


def _value(component: ActionComponent, text: str) -> np.ndarray:
    try:
        if component.kind == "categorical":
            index = component.labels.index(text) + component.first if text in component.labels else int(text)
            value = component.encode(index)
        else:
            value = np.asarray([float(part) for part in text.split(",")], np.float32)
        possible = value.shape == component.zeros(1).shape[1:] and component.possible(value[None]).all()
    except (ValueError, OverflowError):  # no number, or one of too many digits
        possible = False
    if not possible:
        labels = f", or one of {', '.join(component.labels)}" if component.labels else ""
        raise ConfigError(f"--actions {component.name}={text}: expected {component.given_values}{labels}")
    return value


def _usual(component: ActionComponent, store: Store) -> dict[str, np.ndarray]:
    columns = [store.actions(info.id) for info in store.split(store.judging_split)]
    taken = np.concatenate([values[component.name][known] for values, known in columns])
    counts = np.bincount(taken, minlength=component.size)
    often = np.argsort(-counts, kind="stable")[:MOST]
    names = component.labels or [f"{component.name} {component.first + i}" for i in range(component.size)]
    return {names[i]: np.asarray(i, np.int64) for i in sorted(often.tolist())}


def _extremes(component: ActionComponent) -> dict[str, np.ndarray]:
    zeros = component.zeros(1)[0]
    found = {"nothing": zeros}
    ends = (("", (1.0,) * component.size),) if component.kind == "binary" else (
        ("low ", component.reach[0]), ("high ", component.reach[1]))
    for index in range(component.size):
        for end, values in ends:
            one = zeros.copy()
            one[index] = values[index]
            label = component.labels[index] if component.labels else f"{component.name} {index}"
            found[end + label] = one
    return found
