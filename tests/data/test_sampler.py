from collections import Counter
from itertools import islice, pairwise

import numpy as np
import pytest

from wakedream.data.sampler import WindowSampler, permute
from wakedream.errors import DataError

MASK = (1 << 64) - 1
LENGTHS = [10, 3, 7, 4, 25]


def windows(length: int, stride: int = 1) -> set[tuple[int, int]]:
    return {(e, s) for e, frames in enumerate(LENGTHS) for s in range(0, frames - length + 1, stride)}


@pytest.mark.parametrize("size", [1, 2, 3, 5, 16, 17, 1000])
def test_permute_is_a_permutation(size):
    assert sorted(permute(np.arange(size), size, 7)) == list(range(size))


def walk(index: int, size: int, key: int) -> int:
    """The order that every run so far has had, number by number."""
    half = max(1, (size - 1).bit_length() + 1 >> 1)
    while True:
        left, right = index >> half, index & (1 << half) - 1
        for turn in range(6):
            left, right = right, left ^ (finalise(right + (turn << 32) ^ key) & (1 << half) - 1)
        index = left << half | right
        if index < size:
            return index


def finalise(value: int) -> int:
    value = value + 0x9E3779B97F4A7C15 & MASK
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & MASK
    value = (value ^ value >> 27) * 0x94D049BB133111EB & MASK
    return value ^ value >> 31


@pytest.mark.parametrize("size", [1, 2, 5, 17, 1000])
def test_the_order_is_that_of_a_walk_number_by_number(size):
    for key in (0, 7, 2**64 - 1):
        assert permute(np.arange(size), size, key).tolist() == [walk(i, size, key) for i in range(size)]
        assert int(permute(size // 2, size, key)) == walk(size // 2, size, key)
    keys = [finalise(i) for i in range(size)]
    assert permute(np.arange(size), size, np.array(keys, np.uint64)).tolist() == [
        walk(i, size, key) for i, key in enumerate(keys)]


def test_windows_follow_that_order_epoch_by_epoch():
    total = len(windows(4))
    for seed in (0, 5, 2**63 - 1):
        keys = [finalise(finalise(seed) ^ epoch) for epoch in range(3)]
        order = [sorted(windows(4))[walk(i, total, key)] for key in keys for i in range(total)]
        sampler = WindowSampler(LENGTHS, 4, seed=seed)
        assert sampler.windows(range(3 * total)) == order == [sampler.window(i) for i in range(3 * total)]


def test_permutations_are_spread_and_differ_by_key():
    first = permute(np.arange(4096), 4096, 1).tolist()
    assert first != permute(np.arange(4096), 4096, 2).tolist()
    steps = [abs(a - b) for a, b in pairwise(first)]
    assert 0.9 < sum(steps) / len(steps) / (4096 / 3) < 1.1  # of independent positions
    quarter = Counter(position // 1024 for position in first[:1024])
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
