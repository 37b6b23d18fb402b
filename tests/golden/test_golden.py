"""Numbers do not move unless they are meant to: losses of 20 steps of `debug`, within 1e-3 on any CPU."""

import json

import pytest
from debug_losses import GOLDEN, STEPS, debug_losses


def test_losses_of_the_debug_preset(tmp_path) -> None:
    expected = json.loads(GOLDEN.read_text())["mse"]
    assert len(expected) == STEPS
    losses = debug_losses(tmp_path)
    assert losses == pytest.approx(expected, rel=1e-3), "if this was meant: python tests/golden/make.py"
