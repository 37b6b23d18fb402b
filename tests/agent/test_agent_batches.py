"""Relevant rows are relevant, contexts begin and end where they should, and both go on where they stopped."""

import numpy as np
import pytest
import torch

from wakedream.agent.batches import AgentBatches, ContextBatches, Shuffled
from wakedream.agent.config import AgentLoaderConfig, ContextConfig
from wakedream.errors import ConfigError, DataError


@pytest.fixture
def stored(known):
    return known[0], known[2]


def loader(**changes):
    return AgentLoaderConfig(**{**dict(batch_size=8, length=12, short=4, reach=0), **changes})


def test_each_number_comes_once_per_epoch_and_ranks_share_them():
    whole = Shuffled([np.arange(10, 17)], 3)
    first, second = (whole.take(7)[1] for _ in range(2))
    assert sorted(first) == sorted(second) == list(range(10, 17)) and first.tolist() != second.tolist()
    ranks = [Shuffled([np.arange(10, 17)], 3, rank, 2).take(7)[1] for rank in range(2)]
    assert np.stack(ranks, 1).ravel().tolist() == [*first, *second]


def test_relevant_rows_hold_a_reward_and_go_on_over_ends(stored):
    batches = AgentBatches(*stored, loader())
    crossed = False
    for _ in range(20):
        clip = next(batches)
        assert clip.latents.shape[:2] == (8, 12)
        relevant = slice(4, 8)
        assert (clip.rewards[relevant] > 0).any(1).all()
        segments, acted = clip.segments[relevant], clip.has_action[relevant]
        begins = segments[:, 1:] != segments[:, :-1]
        assert torch.equal(begins, ~acted[:, 1:])  # a segment is an episode, whose first frame no action led into
        ended = (clip.trajectory.terminated | clip.trajectory.truncated)[relevant]
        assert torch.equal(begins, ended[:, :-1])
        crossed |= bool(begins.any())
    assert crossed


def test_what_is_relevant_is_chosen(stored):
    best = AgentBatches(*stored, loader(relevant="best:0.1"))
    returns = [float(store.sum()) for store in
               (stored[0].columns(info.id)["rewards"] for info in stored[0].split("train"))]
    chosen = {int(best._episode[first]) for first in best.relevant.sets[0]}
    top = set(np.argsort(-np.array(returns), kind="stable")[:round(0.1 * len(returns))].tolist())
    assert top <= chosen and len(best.relevant.sets[0]) < len(AgentBatches(*stored, loader(relevant="all")
                                                                          ).relevant.sets[0]) / 2
    with pytest.raises(DataError, match="nothing relevant .events. happens"):
        AgentBatches(*stored, loader(relevant="events"))
    with pytest.raises(ConfigError, match="no event jump"):
        AgentBatches(*stored, loader(relevant="jump"))


def test_contexts_end_on_no_last_frame_and_start_on_first_ones(stored):
    config = ContextConfig(batch_size=16, length=5, starts=0.25, relevant_fraction=0.5, reach=2)
    batches = ContextBatches(*stored, config)
    for _ in range(10):
        clip = next(batches).clip
        track = clip.trajectory
        assert not (track.terminated | track.truncated)[:, -1].any()
        assert not track.has_action[:4].any()  # an episode's first frame, over and over
        assert torch.equal(clip.latents[:4, 0], clip.latents[:4, -1])
        assert track.has_action[4:, 1:].all()  # no context goes over an end


def test_both_go_on_where_they_stopped(stored):
    for make in (lambda: AgentBatches(*stored, loader()),
                 lambda: ContextBatches(*stored, ContextConfig(batch_size=8, length=4))):
        whole, parts = make(), make()
        for _ in range(3):
            next(whole)
            next(parts)
        again = make()
        again.load_state_dict(parts.state_dict())
        for mine, other in zip(next(whole).tensors(), next(again).tensors(), strict=True):
            assert torch.equal(mine, other)
