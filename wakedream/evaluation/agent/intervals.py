"""What so many episodes can tell: means, rates, differences with 95 % intervals; rank correlation. Needs no torch."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

COVERED = 0.95
NORMAL = 1.959963984540054  # quantile of the normal distribution that leaves (1 - COVERED) / 2 above it
RESAMPLES, CHUNK = 10_000, 1_000  # of the bootstrap; so many at a time
SEED = 0  # of the resamples: the same numbers have the same interval


@dataclass(frozen=True)
class Estimate:
    """A value between the ends of its interval; these are NaN where one episode alone tells nothing of others."""

    value: float
    low: float
    high: float

    def overlaps(self, other: "Estimate") -> bool:
        """Whether the intervals meet; where one is not known, they may."""
        return not (self.high < other.low or other.high < self.low)

    def holds(self, value: float) -> bool:
        return not (value < self.low or self.high < value)

    def to_json(self) -> dict[str, float | None]:
        return {name: value if math.isfinite(value) else None for name, value in vars(self).items()}


def mean(values: Float[np.ndarray, " n"]) -> Estimate:
    """Of one number per episode; see `means`."""
    return means(values[:, None])[0]


def means(values: Float[np.ndarray, "n k"]) -> list[Estimate]:
    """Of k numbers per episode: percentile bootstrap over episodes (Efron 1979), the same resamples for all k.

    Of few episodes (below 20, say) the intervals are too narrow, and without width where all values are equal.
    """
    n = len(values)
    centre = values.mean(0)
    if n < 2:
        return [Estimate(float(value), math.nan, math.nan) for value in centre]
    rng = np.random.default_rng(SEED)
    drawn = np.concatenate([_counts(rng, chunk, n) @ values / n for chunk in _chunks()])
    tail = (1 - COVERED) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail], axis=0)
    return [Estimate(*map(float, ends)) for ends in zip(centre, low, high, strict=True)]


def difference(values: Float[np.ndarray, " n"], others: Float[np.ndarray, " n"]) -> Estimate:
    """Mean of values - others, pair by pair: what the worlds of the episodes do to both falls out."""
    assert values.shape == others.shape, (values.shape, others.shape)
    return mean(values - others)


def rate(happened: Bool[np.ndarray, " n"]) -> Estimate:
    """Share of the episodes in which it happened, with the score interval of Wilson (1927)."""
    n, share, z2 = len(happened), float(happened.mean()), NORMAL**2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = NORMAL / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return Estimate(share, min(share, max(0.0, middle - half)), max(share, min(1.0, middle + half)))


def rank_correlation(x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"]) -> float | None:
    """Spearman's: the correlation of the ranks, where equal values share the mean of theirs. None where one of both
    does not vary."""
    assert x.shape == y.shape, (x.shape, y.shape)
    if len(np.unique(x)) < 2 or len(np.unique(y)) < 2:
        return None
    a, b = (ranks - ranks.mean() for ranks in (_ranks(x), _ranks(y)))
    return float((a * b).sum() / math.sqrt((a * a).sum() * (b * b).sum()))


def _ranks(values: np.ndarray) -> np.ndarray:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum()
    return (last - (counts - 1) / 2)[place]


def _chunks() -> list[int]:
    return [min(CHUNK, RESAMPLES - start) for start in range(0, RESAMPLES, CHUNK)]


def _counts(rng: np.random.Generator, resamples: int, n: int) -> Float[np.ndarray, "resamples n"]:
    """How often each episode is in each resample: n are drawn with replacement."""
    drawn = rng.integers(n, size=(resamples, n)) + n * np.arange(resamples)[:, None]
    return np.bincount(drawn.ravel(), minlength=resamples * n).reshape(resamples, n).astype(np.float64)
