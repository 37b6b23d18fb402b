"""Which runs of frames are relevant: by hand."""

import numpy as np

from wakedream.agent.relevance import runs, soon

FIRSTS = np.array([0, 6, 10])


def test_soon_stays_within_the_episode():
    relevant = np.array([0, 0, 0, 0, 1, 0, 0, 0, 0, 1], bool)
    assert soon(relevant, FIRSTS, 2).astype(int).tolist() == [0, 0, 1, 1, 1, 0, 0, 1, 1, 1]
    assert soon(relevant, FIRSTS, 0).astype(int).tolist() == relevant.astype(int).tolist()


def test_a_run_is_relevant_from_its_first_frame_to_the_reach_past_its_last():
    relevant = np.array([0, 0, 0, 0, 1, 0, 0, 0, 0, 0], bool)
    assert runs(relevant, FIRSTS, 2, 1).tolist() == [2, 3, 4]
    assert runs(relevant, FIRSTS, 2, 0).tolist() == [3, 4]
    assert runs(relevant, FIRSTS, 2, 9).tolist() == [0, 1, 2, 3, 4]
