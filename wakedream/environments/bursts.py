"""Which steps of an episode are taken at random: a share of them, in bursts."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")

BURST = 8  # a burst is one step longer, on average


class Bursts:
    """At each step ask `begins()`, whether a burst begins now, then `lasts()`, whether this step belongs to one.

    epsilon  the share of steps that do, 0 to 1
    """

    def __init__(self, epsilon: float, rng: np.random.Generator):
        self.rng, self.left = rng, 0
        self.start = epsilon / ((1 - epsilon) * (BURST + 1) + epsilon)  # chance of a burst where none lasts

    def begins(self) -> bool:
        if self.left or self.rng.random() >= self.start:
            return False
        self.left = 1 + int(self.rng.geometric(1 / BURST))
        return True

    def lasts(self) -> bool:
        if self.left == 0:
            return False
        self.left -= 1
        return True


def drawn(levels: Sequence[tuple[T, float]], rng: np.random.Generator) -> T:
    """One of the levels, each beside its chance."""
    return levels[rng.choice(len(levels), p=[chance for _, chance in levels])][0]
