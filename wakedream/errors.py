"""Errors that the user can mend. Each message says what came, what was expected and what to do.

The command line prints them as one line and exits with 2; anything else is a bug and keeps its traceback.
"""

import importlib
from types import ModuleType


class UserError(Exception):
    """Something outside the code is wrong: a file, an option, a data set, the disk."""

    told: bool | None = None  # by another process of the run; None: nobody asked the others


class ConfigError(UserError):
    """An option or a combination of options is not possible."""


class DataError(UserError):
    """A video, an environment or a data set is not what it should be."""


class UnreadableError(UserError):
    """A file is there and may not be read: nothing is known of what it holds, so it is neither missing nor damaged."""


class CheckpointError(UserError):
    """Weights or training state cannot be used."""


class WeightsError(UserError):
    """Pretrained feature weights are missing or not the expected ones."""


class RunError(UserError):
    """A run cannot go on: folder in use, no space, numbers not finite."""


class OwnWarning(UserWarning):
    """Of one process of a run; what others warn of is said by the first for all."""


class MissingExtraError(UserError):
    """An optional dependency is not installed."""


class Interrupted(KeyboardInterrupt):
    """Work was stopped by a signal after saving what there was; the exit code is 128 + signal."""

    def __init__(self, number: int, message: str = ""):
        super().__init__(message)
        self.signal = number
        self.told: bool | None = None  # as a UserError's


def require(module: str, extra: str) -> ModuleType:
    """Import an optional dependency, or say which extra brings it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"this needs the package '{module.split('.')[0]}', which cannot be imported ({error}): "
            f"pip install 'wakedream[{extra}]'"
        ) from error
