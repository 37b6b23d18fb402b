from collections import Counter
from itertools import islice, pairwise

import pytest

from wakedream.data.sampler import WindowSampler, permute
from wakedream.errors import DataError

LENGTHS = [10, 3, 7, 4, 25]


def windows(length: int, stride: int = 1) -> set[tuple[int, int]]:
    return {(e, s) for e, frames in enumerate(LENGTHS) for s in range(0, frames - length + 1, stride)}


@pytest.mark.parametrize("size", [1, 2, 3, 5, 16, 17, 1000])
def test_permute_is_a_permutation(size):
    assert sorted(permute(i, size, 7) for i in range(size)) == list(range(size))


def test_permutations_are_spread_and_differ_by_key():
    first = [permute(i, 4096, 1) for i in range(4096)]
    assert first != [permute(i, 4096, 2) for i in range(4096)]
    steps = [abs(a - b) for a, b in pairwise(first)]
    assert 0.9 < sum(steps) / len(steps) / (4096 / 3) < 1.1  # of independent places
    quarter = Counter(place // 1024 for place in first[:1024])
    assert min(quarter.values()) > 200


@pytest.mark.parametrize("world_size", [1, 3, 4])
@pytest.mark.parametrize("stride", [1, 3])
def test_ranks_share_out_every_window_exactly_once_per_epoch(world_size, stride):
    expected, epochs = windows(4, stride), 6
    samplers = [WindowSampler(LENGTHS, 4, seed=0, rank=r, world_size=world_size, stride=stride)
                for r in range(world_size)]
    total = epochs * len(expected)
    together = [next(samplers[i % world_size]) for i in range(total)]
    orders = [tuple(together[e * len(expected):(e + 1) * len(expected)]) for e in range(epochs)]
    for order in orders:
        assert Counter(order) == Counter(expected)
    assert len(set(orders)) == epochs
    one = WindowSampler(LENGTHS, 4, seed=0, stride=stride)
    assert together == list(islice(one, total))


def test_it_resumes_to_the_exact_window_also_with_other_ranks():
    one = WindowSampler(LENGTHS, 4, seed=3)
    truth = list(islice(one, 60))
    first = WindowSampler(LENGTHS, 4, seed=3)
    list(islice(first, 12))
    state = first.state_dict()
    for world_size in (1, 2, 3):
        ranks = [WindowSampler(LENGTHS, 4, seed=3, rank=r, world_size=world_size) for r in range(world_size)]
        for sampler in ranks:
            sampler.load_state_dict(state)
        assert [next(ranks[i % world_size]) for i in range(48)] == truth[12:]


def test_a_state_of_other_data_is_refused():
    state = WindowSampler(LENGTHS, 4, seed=0).state_dict()
    for other in (WindowSampler([*LENGTHS, 9], 4, seed=0), WindowSampler(LENGTHS, 5, seed=0),
                  WindowSampler(LENGTHS, 4, seed=1)):
        with pytest.raises(DataError, match="place in the data"):
            other.load_state_dict(state)


def test_short_episodes_are_named_and_no_window_is_an_error():
    sampler = WindowSampler(LENGTHS, 5, seed=0, shuffle=False)
    assert sampler.too_short == [1, 3]
    assert list(islice(sampler, 3)) == [(0, 0), (0, 1), (0, 2)]
    with pytest.raises(DataError, match="no window of 26 frames: there are 5 episodes, the longest of 25"):
        WindowSampler(LENGTHS, 26, seed=0)
