"""wakedream: Dreamer 4 in PyTorch. `import wakedream as wd`; names load torch only when touched."""

import os
from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = ["Agent", "Clip", "DreamEnv", "DreamVectorEnv", "Tokenizer", "World", "__version__", "data"]

if TYPE_CHECKING:
    from wakedream import data
    from wakedream.data.clip import Clip
    from wakedream.tokenizer.tokenizer import Tokenizer
    from wakedream.world.env import DreamEnv, DreamVectorEnv
    from wakedream.world.model import World
    from wakedream.world.policy import Agent

# Read when torch is loaded. OpenMP's threads wait for one another in a busy loop by default: beside any other job on
# the same cores training then slows by more than ten times (docs/log.md)
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

_HOMES = {"Agent": "wakedream.world.policy", "Clip": "wakedream.data.clip", "DreamEnv": "wakedream.world.env",
          "DreamVectorEnv": "wakedream.world.env", "Tokenizer": "wakedream.tokenizer.tokenizer",
          "World": "wakedream.world.model"}


def __dir__() -> list[str]:
    return sorted(__all__)


def __getattr__(name: str):
    import importlib

    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name == "data":
        return importlib.import_module("wakedream.data")
    raise AttributeError(f"module 'wakedream' has no attribute '{name}'")
