"""Laws of `import wakedream`, each seen in a fresh interpreter."""

import os
import subprocess
import sys

import pytest


def said(code: str, **environment: str) -> str:
    inherited = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    return subprocess.run([sys.executable, "-c", code], env=inherited | environment, capture_output=True, text=True,
                          check=True).stdout.strip()


def test_names_are_listed_before_they_are_loaded():
    names = "{'Clip', 'Tokenizer', 'World'} <= set(dir(wd))"
    assert said(f"import sys, wakedream as wd; print({names}, 'torch' in sys.modules)") == "True False"


def test_only_what_is_public_is_listed():
    assert said("import wakedream as wd; print(dir(wd) == sorted(wd.__all__))") == "True"
    assert said("import wakedream.data as d; print(dir(d) == sorted(d.__all__), d.Store)").startswith("True <class")


@pytest.mark.parametrize(("set_by_user", "expected"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")])
def test_threads_that_wait_sleep_unless_the_user_says_otherwise(set_by_user, expected):
    """Busy waiting takes the cores from every other job, and from training itself beside one."""
    assert said("import os, wakedream; print(os.environ['OMP_WAIT_POLICY'])", **set_by_user) == expected
