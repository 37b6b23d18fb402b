"""Laws of the intervals: what plain loops and published values say, and as much coverage as they promise."""

import math

import numpy as np
import pytest

from wakedream.evaluation.agent import intervals
from wakedream.evaluation.agent.intervals import Estimate, difference, mean, means, rank_correlation, rate


def plainly(values):
    """The percentile bootstrap, one resample after the other."""
    rng, drawn = np.random.default_rng(intervals.SEED), []
    for _ in range(intervals.RESAMPLES):
        drawn.append(np.mean([values[i] for i in rng.integers(len(values), size=len(values))]))
    drawn.sort()
    return [_quantile(drawn, 0.025), _quantile(drawn, 0.975)]


def _quantile(ordered, share):
    place = share * (len(ordered) - 1)
    below = int(place)
    return ordered[below] + (place - below) * (ordered[below + 1] - ordered[below])


def test_the_mean_has_the_interval_of_a_plain_bootstrap(monkeypatch):
    monkeypatch.setattr(intervals, "RESAMPLES", 2500)  # of chunks of 1000: the last one is shorter
    values = np.random.default_rng(1).exponential(size=23)
    found = mean(values)
    assert [found.low, found.high] == pytest.approx(plainly(values), abs=1e-12)
    assert found.value == pytest.approx(values.mean())


def test_many_measures_at_once_are_each_by_itself():
    values = np.random.default_rng(1).normal(size=(12, 3))
    for i, found in enumerate(means(values)):
        assert vars(found) == pytest.approx(vars(mean(values[:, i])), abs=1e-12)


@pytest.mark.parametrize(("happened", "n", "low", "high"), [
    (0, 10, 0.0, 0.2775), (1, 10, 0.0179, 0.4042), (10, 10, 0.7225, 1.0), (81, 263, 0.2553, 0.3662),
    (15, 148, 0.0624, 0.1605), (1, 29, 0.0061, 0.1718)])
def test_rates_have_wilsons_interval(happened, n, low, high):
    """The last three: Newcombe (1998), table I, method 3; all: the two values whose score test just passes."""
    found = rate(np.arange(n) < happened)
    assert [found.low, found.high] == pytest.approx([low, high], abs=5e-5)
    for end in (found.low, found.high):
        if 0 < end < 1:
            assert abs(found.value - end) / math.sqrt(end * (1 - end) / n) == pytest.approx(1.96, abs=1e-3)
    assert found.low <= found.value <= found.high


@pytest.mark.parametrize("n", [40, 150])
def test_intervals_hold_the_truth_as_often_as_they_say(n):
    """95 %, of 1,000 samples each of a skewed distribution and of rare events: within three standard errors, or a
    little less for skewed ones of few episodes."""
    rng = np.random.default_rng(0)
    samples = rng.exponential(size=(n, 1000))
    held = np.mean([found.holds(1.0) for found in means(samples)])
    assert 0.95 - (0.05 if n == 40 else 0.03) < held < 0.97
    held = np.mean([rate(rng.random(n) < 0.1).holds(0.1) for _ in range(1000)])
    assert 0.925 < held < 0.98


def test_differences_on_the_same_worlds_are_known_better():
    """What a world gives to both falls out."""
    rng = np.random.default_rng(0)
    worlds = rng.normal(0, 10, 60)
    better, worse = worlds + rng.normal(1, 0.5, 60), worlds + rng.normal(0, 0.5, 60)
    found = difference(better, worse)
    assert vars(found) == vars(mean(better - worse))
    assert found.holds(1.0) and not found.holds(0.0)
    assert mean(better).overlaps(mean(worse)) and found.high - found.low < 0.5
    assert difference(rng.permutation(better), worse).holds(0.0)


def test_overlap():
    low, middle, high = Estimate(1, 0, 2), Estimate(2.5, 2, 3), Estimate(4, 3.5, 5)
    assert low.overlaps(middle) and middle.overlaps(low)
    assert not middle.overlaps(high) and not high.overlaps(low) and not low.overlaps(high)
    assert Estimate(0, -9, 9).overlaps(high) and high.overlaps(Estimate(0, -9, 9))


def test_one_episode_tells_nothing_of_others():
    alone = mean(np.array([3.0]))
    assert alone.to_json() == {"value": 3.0, "low": None, "high": None}
    assert alone.overlaps(Estimate(9, 8, 10)) and alone.holds(-1)
    assert rate(np.array([True])).low == pytest.approx(0.2065, abs=1e-4)


@pytest.mark.parametrize(("x", "y", "expected"), [
    ([1, 2, 3, 4], [10, 20, 30, 1e6], 1.0), ([1, 2, 3, 4], [4, 3, 2, 1], -1.0),
    ([106, 100, 86, 101, 99, 103, 97, 113, 112, 110], [7, 27, 2, 50, 28, 29, 20, 12, 6, 17], -29 / 165),
    ([1, 2, 2, 3], [1, 2, 3, 4], 0.9486832980505138), ([0, 0, 1, 1], [0, 0, 1, 1], 1.0),
    ([1, 1, 1], [1, 2, 3], None), ([1, 2], [5, 5], None)])
def test_rank_correlation_with_ties(x, y, expected):
    """The third: IQ and hours of television, Wikipedia's example; the fourth by hand, 9 / sqrt(90)."""
    found = rank_correlation(np.array(x, float), np.array(y, float))
    assert found == (None if expected is None else pytest.approx(expected, abs=1e-12))


def test_ranks_are_those_of_a_plain_count():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 6, 40).astype(float), rng.integers(0, 9, 40).astype(float)
    ranks = [[sum(other < one for other in v) + (sum(other == one for other in v) + 1) / 2 for one in v]
             for v in (x, y)]
    assert rank_correlation(x, y) == pytest.approx(np.corrcoef(*ranks)[0, 1], abs=1e-12)
