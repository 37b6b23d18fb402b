"""What a reader of others' data gives: episodes by name, each as what stands beside its frames, and the frames."""

import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np

from wakedream.data.actions import ActionComponent, ActionSpec
from wakedream.data.columns import Columns
from wakedream.errors import DataError


@dataclass(frozen=True)
class Play:
    """One episode. `frames()` reads its pictures, one after the other: av.VideoFrame or uint8 (h w), (h w c).

    columns     as `plain_columns` makes them, an entry for each frame
    terminated  it truly ended at its last frame
    info        JSON values that stay with it
    """

    columns: Columns
    terminated: bool
    frames: Callable[[], Iterator[Any]]
    info: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.columns["has_action"])


@runtime_checkable
class Source(Protocol):
    """A data set of others, opened. Nothing but tables of small things is in memory.

    spec      its actions
    guessed   they are known by their values alone: there may be more choices than were seen
    episodes  their names, always in the same order
    endless   its episodes have no bounds of their own and are cut as videos are
    remarks   what the user is to be told once, such as what is not kept; more may come while episodes are read
    """

    spec: ActionSpec
    guessed: bool
    episodes: list[str]
    endless: bool
    remarks: list[str]

    def read(self, name: str, spec: ActionSpec) -> Play:
        """An episode with the actions as `spec` has them, which is alike to its own; DataError when damaged."""
        ...


@contextmanager
def readable(what: str) -> Iterator[None]:
    """Damage in others' files, as a library tells it, is a DataError that names the file."""
    try:
        yield
    except DataError:
        raise
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        told = str(error).strip().split("\n")[0] or type(error).__name__
        raise DataError(f"{what} cannot be read ({told}): get it whole, or leave it out") from error


class Values:
    """Actions that only their values describe, seen array by array over a whole data set.

    Whole numbers are choices from 0 (or the smallest, below 0) to the largest seen, each column a component of its
    own (NAME/0 ...); more choices than MANY are taken as numbers. Bools are bits. Other numbers are continuous, with
    the smallest and largest seen as bounds.
    """

    MANY = 1024

    def __init__(self, name: str, labels: tuple[str, ...] = ()):
        self.name, self.labels, self.kind, self.size = name, labels, "", 0
        self.low = self.high = np.zeros(0)

    def see(self, array: np.ndarray) -> None:
        """(n ...): n actions. DataError when their type or size is not that of those before."""
        kind = {"b": "bits", "i": "whole numbers", "u": "whole numbers", "f": "numbers"}.get(array.dtype.kind, "")
        size = int(np.prod(array.shape[1:]))
        if not kind or size == 0:
            raise DataError(f"the actions '{self.name}' are {array.dtype} {array.shape}, expected numbers or bools")
        if self.kind and (kind, size) != (self.kind, self.size):
            raise DataError(f"the actions '{self.name}': {size} {kind}, before them {self.size} {self.kind}; expected "
                            "the same in every episode")
        self.kind, self.size = kind, size
        if len(array) and kind != "bits":
            rows = array.reshape(len(array), size).astype(float)
            rows[~np.isfinite(rows)] = np.nan  # told when the episode is read
            low, high = np.fmin.reduce(rows), np.fmax.reduce(rows)
            self.low = np.fmin(self.low, low) if len(self.low) else low
            self.high = np.fmax(self.high, high) if len(self.high) else high

    def components(self) -> list[ActionComponent]:
        """None where nothing was seen."""
        if not self.kind:
            return []
        if self.kind == "bits":
            return [ActionComponent(self.name, "binary", self.size, labels=self.labels)]
        low, high = (np.nan_to_num(edge) if len(edge) else np.zeros(self.size) for edge in (self.low, self.high))
        first = np.minimum(low, 0)
        if self.kind == "whole numbers" and (high - first < self.MANY).all():
            names = [self.name] if self.size == 1 else [f"{self.name}/{i}" for i in range(self.size)]
            return [ActionComponent(name, "categorical", int(most - least) + 1, low=(least,) if least else ())
                    for name, least, most in zip(names, first.tolist(), high.tolist(), strict=True)]
        same = low >= high
        low, high = np.where(same, low - 1, low), np.where(same, high + 1, high)
        return [ActionComponent(self.name, "continuous", self.size, tuple(low.tolist()), tuple(high.tolist()),
                                self.labels)]


def by_component(spec: ActionSpec, name: str, array: np.ndarray) -> dict[str, np.ndarray]:
    """What `Values` called one component, or one for each column."""
    if any(component.name == name for component in spec.components):
        return {name: array}
    columns = array.reshape(len(array), -1)
    return {f"{name}/{i}": columns[:, i] for i in range(columns.shape[1])}
