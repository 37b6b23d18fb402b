"""Numbers do not move unless they are meant to: losses of 20 steps of `debug`, within 1e-3 on any CPU."""

import json

import debug_losses
import dynamics_losses
import pytest

MEANT = "if this was meant: python tests/golden/make.py"


def test_losses_of_the_debug_preset(tmp_path) -> None:
    expected = json.loads(debug_losses.GOLDEN.read_text())["mse"]
    assert len(expected) == debug_losses.STEPS
    assert debug_losses.debug_losses(tmp_path) == pytest.approx(expected, rel=1e-3), MEANT


def test_losses_of_the_dynamics_preset(tmp_path) -> None:
    """From the tenth step on with bootstrap rows."""
    expected = json.loads(dynamics_losses.GOLDEN.read_text())
    found = dynamics_losses.dynamics_losses(tmp_path)
    assert [len(found[name]) for name in ("flow", "bootstrap")] == [20, 10]
    for name, losses in found.items():
        near = 5e-3 if name == "bootstrap" else 1e-3  # so small a difference of two outputs: one thread or two, 1e-3
        assert losses == pytest.approx(expected[name], rel=near), f"{name}; {MEANT}"
