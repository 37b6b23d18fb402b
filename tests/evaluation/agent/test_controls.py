"""Laws of shuffled rewards: pictures and actions as they were, the same returns, of other episodes."""

import subprocess
import sys
from pathlib import Path

import numpy as np
from agent.conftest import write_known

from wakedream.data.store import Store

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "controls.py"


def test_rewards_are_permuted_among_episodes(tmp_path):
    before = write_known(tmp_path / "data")
    done = subprocess.run([sys.executable, str(SCRIPT), "shuffle", str(before.path), str(tmp_path / "shuffled")],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    after = Store.open(tmp_path / "shuffled")
    own, others = ([store.read(info.id) for info in store.episodes] for store in (before, after))
    assert len(own) == len(others)
    for one, other in zip(own, others, strict=True):
        np.testing.assert_array_equal(one.video, other.video)
        np.testing.assert_array_equal(one.actions["move"], other.actions["move"])
        assert one.terminated == other.terminated
        assert not other.rewards[~other.has_reward].any()
    returns, given = ([float(one.rewards.sum()) for one in episodes] for episodes in (own, others))
    assert sorted(returns) == sorted(given)
    assert returns != given
