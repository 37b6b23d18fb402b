"""Gymnasium's spaces as Minari writes them in JSON, by their names in Gymnasium: neither is needed to read them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from wakedream.errors import DataError


@dataclass(frozen=True)
class Box:
    shape: tuple[int, ...]
    dtype: str
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True)
class Discrete:
    n: int
    start: int = 0


@dataclass(frozen=True)
class MultiDiscrete:
    nvec: np.ndarray
    start: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        return self.nvec.shape


@dataclass(frozen=True)
class MultiBinary:
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Text:
    max_length: int


@dataclass(frozen=True)
class Dict:
    spaces: dict[str, Any]


@dataclass(frozen=True)
class Tuple:
    spaces: tuple[Any, ...]


def parse_space(text: str | dict[str, Any]) -> Any:
    """One of the above; DataError when it is another, KeyError or ValueError when it is no space."""
    about: dict[str, Any] = json.loads(text) if isinstance(text, str) else text
    kind = about["type"]
    if kind == "Box":
        low, high = (np.asarray(about[name], float) for name in ("low", "high"))
        return Box(tuple(about["shape"]), about["dtype"], low, high)
    if kind == "Discrete":
        return Discrete(about["n"], about.get("start", 0))
    if kind == "MultiDiscrete":
        nvec = np.asarray(about["nvec"])
        return MultiDiscrete(nvec, np.asarray(about.get("start", np.zeros_like(nvec))))
    if kind == "MultiBinary":
        return MultiBinary(tuple(np.atleast_1d(about["n"]).tolist()))
    if kind == "Text":
        return Text(about["max_length"])
    if kind == "Dict":
        return Dict({name: parse_space(inner) for name, inner in about["subspaces"].items()})
    if kind == "Tuple":
        return Tuple(tuple(map(parse_space, about["subspaces"])))
    raise DataError(f"the space {kind} is not known: expected one of Minari's")


def leaves(space: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Each space that holds arrays, with its way there: keys of a Dict, indices of a Tuple."""
    if isinstance(space, Dict):
        for name, inner in space.spaces.items():
            yield from leaves(inner, (*path, name))
    elif isinstance(space, Tuple):
        for i, inner in enumerate(space.spaces):
            yield from leaves(inner, (*path, i))
    else:
        yield path, space


def shown(space: Any) -> str:
    """In words, as short as it goes."""
    if isinstance(space, Box):
        return f"{space.dtype} {space.shape}"
    return f"{type(space).__name__}"
