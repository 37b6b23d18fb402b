"""Laws of branching in environments that nobody prepared for it: what is said of a command is what it led to."""

import numpy as np
import pytest

pytest.importorskip("gymnasium")
from worlds_to_branch import register

from wakedream.environments.registry import environment
from wakedream.errors import ConfigError, DataError
from wakedream.evaluation.dynamics.branching import branches


@pytest.fixture(scope="module", autouse=True)
def worlds():
    register()


@pytest.mark.parametrize("name", ["BranchPlain-v0", "BranchHidden-v0"])
def test_outcomes_are_what_the_environment_does_when_it_is_played_again(name):
    """From the seed, by the actions that were taken, then the command: also where its state cannot be copied."""
    found = branches(name, 8, 5, hold=3, seed=1)
    assert found.commands == ("noop", "left", "right") and found.still
    env = environment(name).make(None)
    for n, (seed, taken) in enumerate(found.origins):
        for k in range(3):
            frames = [env.reset(seed=seed)[0]] + [env.step(action)[0] for action in taken]
            assert np.array_equal(frames[-1], found.contexts[n, -1])
            assert np.array_equal([env.step(k)[0] for _ in range(3)], found.outcomes[n, k])
        assert found.groups[n, 0] == 0
    assert 0 < found.unblocked[:, 1:].mean() <= 1


def test_episodes_as_short_as_a_context_are_enough():
    assert len(branches("BranchShort-v0", 5, 12, hold=2).origins) == 5


def test_without_an_action_that_does_nothing_all_count_where_it_matters_which_is_taken():
    found = branches("BranchNameless-v0", 6, 5, hold=3)
    assert found.commands == ("0", "1", "2") and not found.still
    assert found.unblocked.all()


def test_what_does_not_repeat_or_leaves_no_choice_is_said():
    with pytest.raises(DataError, match="BranchRestless-v0 does not repeat"):
        branches("BranchRestless-v0", 4, 5)
    with pytest.raises(ConfigError, match="only one of several choices"):
        branches("BranchSlider-v0", 4, 5)
