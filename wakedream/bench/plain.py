"""Finds the plain implementation that ours is compared with: benchmarks/baseline.py of the repository."""

import importlib.util
from pathlib import Path
from types import ModuleType

from wakedream.errors import ConfigError

FILE = Path(__file__).parents[2] / "benchmarks" / "baseline.py"


def plain_implementation() -> ModuleType:
    """The module; ConfigError in an installed package, which has no benchmarks folder."""
    if not FILE.is_file():
        raise ConfigError(f"--baseline needs benchmarks/baseline.py of the repository, there is no {FILE}: "
                          "clone the repository and install it with `pip install -e .`")
    spec = importlib.util.spec_from_file_location("wakedream_baseline", FILE)
    assert spec is not None and spec.loader is not None, FILE
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
