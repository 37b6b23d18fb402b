"""Data sets from Python: `wd.data.Writer` writes one, `wd.data.Store` reads one, `wd.data.Loader` hands out clips."""

from typing import TYPE_CHECKING

__all__ = ["ActionComponent", "ActionSpec", "Episode", "Loader", "Store", "Writer"]

if TYPE_CHECKING:
    from wakedream.data.actions import ActionComponent, ActionSpec
    from wakedream.data.by_hand import Writer
    from wakedream.data.episode import Episode
    from wakedream.data.loader import Loader
    from wakedream.data.store import Store

_HOMES = {"ActionComponent": "actions", "ActionSpec": "actions", "Episode": "episode", "Loader": "loader",
          "Store": "store", "Writer": "by_hand"}


def __dir__() -> list[str]:
    return sorted(__all__)


def __getattr__(name: str):
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(f"wakedream.data.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'wakedream.data' has no attribute '{name}'")
