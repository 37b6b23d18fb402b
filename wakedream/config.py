"""Frozen dataclasses to JSON and back, strictly. Imports no torch: `--help` must be instant."""

import dataclasses
import difflib
import importlib
import types
import typing
from collections.abc import Iterable
from typing import Any, TypeVar

from wakedream.errors import ConfigError

T = TypeVar("T")


def suggest(kind: str, name: str, known: Iterable[str]) -> ConfigError:
    """The error for an unknown name: what came, what there is, what was probably meant."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"; did you mean '{close[0]}'?" if close else "."
    return ConfigError(f"unknown {kind} '{name}'{hint} Known: {', '.join(known)}")


def find(place: str) -> Any:
    """What "module:name" names; the module is imported only now."""
    module, name = place.split(":")
    return getattr(importlib.import_module(module), name)


def check(condition: bool, message: str) -> None:
    """For `__post_init__`: raise ConfigError(message) unless the condition holds."""
    if not condition:
        raise ConfigError(message)


def check_seed(seed: int, option: str) -> None:
    """ConfigError unless every generator takes the seed; numpy's take none below 0."""
    check(0 <= seed < 2**63, f"{option} {seed}: expected a whole number from 0 to 2^63 - 1")


def added(default: Any, *, was: Any) -> Any:
    """A field that a config gained after files with it had been written. was: what all did before there was the field.

    A file that lacks it means `was`, whatever the default is by now; and where the value is `was`, identity leaves the
    field out (`shown`), so that what was known by its config before is known by it still.
    """
    return dataclasses.field(default=default, metadata={"was": was})


def without_gone(cls: type, values: dict[str, Any]) -> dict[str, Any]:
    """Values from a file, less what `cls.GONE` names: fields that a config lost, and the one value at which a file
    that has them still means what it meant."""
    gone = getattr(cls, "GONE", {})
    return {name: value for name, value in values.items() if name not in gone or value != gone[name]}


def shown(config: Any) -> dict[str, Any]:
    """As `to_dict`, without fields that were added later and stand at what had been before: what is hashed and
    compared."""
    return _shown(config, to_dict(config))


def _shown(config: Any, values: Any) -> Any:
    if isinstance(config, (list, tuple)):
        return [_shown(one, value) for one, value in zip(config, values, strict=True)]
    if not dataclasses.is_dataclass(config):
        return values
    kept = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if "was" not in field.metadata or value != field.metadata["was"]:
            kept[field.name] = _shown(value, values[field.name])
    return kept


def to_dict(config: Any) -> dict[str, Any]:
    """A config as plain JSON values (tuples become lists)."""
    return _plain(dataclasses.asdict(config))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def from_dict(cls: type[T], values: dict[str, Any]) -> T:
    """The config that `to_dict` wrote. Unknown, missing or ill-typed fields raise ConfigError."""
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    values = without_gone(cls, values)
    for name in values:
        if name not in fields:
            raise suggest(f"field of {cls.__name__}", name, fields)
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        check(name in values or not required, f"{cls.__name__} lacks the field '{name}'")
    before = {name: field.metadata["was"] for name, field in fields.items()
              if "was" in field.metadata and name not in values}
    return cls(
        **before, **{name: _build(hints[name], value, f"{cls.__name__}.{name}") for name, value in values.items()}
    )


def _build(hint: Any, value: Any, where: str) -> Any:
    origin = typing.get_origin(hint)
    if dataclasses.is_dataclass(hint):
        check(isinstance(value, dict), f"{where}: expected an object, got {value!r}")
        return from_dict(hint, value)  # type: ignore[arg-type]
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        (inner,) = [option for option in typing.get_args(hint) if option is not type(None)]
        return _build(inner, value, where)
    if origin is tuple:
        check(isinstance(value, (list, tuple)), f"{where}: expected a list, got {value!r}")
        args = typing.get_args(hint)
        if len(args) == 2 and args[1] is Ellipsis:
            return tuple(_build(args[0], item, where) for item in value)
        check(len(value) == len(args), f"{where}: expected {len(args)} values, got {len(value)}")
        return tuple(_build(arg, item, where) for arg, item in zip(args, value, strict=True))
    if origin is typing.Literal:
        options = typing.get_args(hint)
        check(value in options, f"{where}: expected one of {options}, got {value!r}")
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint in (int, float, str, bool):
        right = isinstance(value, hint) and (hint is bool or not isinstance(value, bool))
        check(right, f"{where}: expected {hint.__name__}, got {value!r}")
    return value
