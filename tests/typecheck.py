"""The checker of `make test`'s first run: beartype, which takes an int where a float is annotated (PEP 484)."""

from collections.abc import Callable
from typing import Any

from beartype import BeartypeConf, beartype
from beartype.roar import BeartypeDecorHintPep673Exception

_checked = beartype(conf=BeartypeConf(is_pep484_tower=True))


def checked(function: Any) -> Callable[..., Any]:
    """Of methods one by one, `Self` says nothing that could be checked: those that return it are left as they are."""
    try:
        return _checked(function)
    except BeartypeDecorHintPep673Exception:
        return function
