"""Every action can be reached by keys, no key does two things, and what is held last wins."""

import numpy as np
import pytest

from wakedream.data.actions import ActionComponent, ActionSpec
from wakedream.environments.registry import BUILT_IN, commanded
from wakedream.play.keys import controls

LARGE = ActionSpec((ActionComponent("action", "categorical", 17),))


@pytest.mark.parametrize("name", commanded())
def test_what_a_player_would_press_does_what_it_is_called(name):
    commands = BUILT_IN[name].names
    made = controls(ActionSpec((ActionComponent("action", "categorical", 17),)), commands)
    keys = {key.label: key for key in made.keys}
    for label, choice in commands.items():
        if label == BUILT_IN[name].still:
            assert int(made.actions([])["action"]) == choice and label not in keys
        else:
            assert int(made.actions([keys[label].code])["action"]) == choice
    assert keys["left"].code == "ArrowLeft" and keys["right"].code == "ArrowRight"


def test_every_choice_has_a_key_of_its_own():
    made = controls(LARGE)
    codes = [key.code for key in made.keys]
    assert len(set(codes)) == len(codes)
    assert {int(made.actions([code])["action"]) for code in codes} == set(range(17))


def test_the_last_key_wins_and_unknown_ones_do_nothing():
    made = controls(LARGE, {"noop": 0, "left": 1, "right": 2})
    assert int(made.actions(["ArrowLeft", "ArrowRight"])["action"]) == 2
    assert int(made.actions(["ArrowRight", "ArrowLeft", "F13"])["action"]) == 1
    assert int(made.actions(["F13"])["action"]) == 0


def test_bits_are_held_together_and_dimensions_go_to_their_bounds():
    spec = ActionSpec((ActionComponent("keys", "binary", 3),
                       ActionComponent("stick", "continuous", 2, (-1, -2), (1, 2))))
    made = controls(spec)
    bits = [key.code for key in made.keys if key.component == "keys"]
    low, high = (next(key.code for key in made.keys if key.label == f"stick 1 {sign}") for sign in "-+")
    assert len(set(bits)) == 3
    found = made.actions([bits[0], bits[2], high])
    assert np.array_equal(found["keys"], [1, 0, 1]) and np.array_equal(found["stick"], [0, 2])
    assert np.array_equal(made.actions([low])["stick"], [0, -2])
    spec_of = {c.name: c for c in spec.components}
    assert all(spec_of[name].possible(value[None]).all() for name, value in found.items())
