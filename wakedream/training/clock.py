"""Seconds spent on training alone."""

import time
from collections.abc import Callable

UNCOUNTED_STEPS = 3  # of every process: they compile, allocate, choose kernels and record the graph


class Clock:
    """`tick()` after each step counts the time since; `skip()` drops it (evaluation, saving)."""

    def __init__(self, elapsed: float = 0.0, uncounted: int = UNCOUNTED_STEPS,
                 now: Callable[[], float] = time.monotonic):
        self.elapsed, self.uncounted, self.now = elapsed, uncounted, now
        self.began, self.steps, self.lap_start = elapsed, 0, (0, elapsed)
        self.last = now()

    def tick(self) -> float:
        """Seconds of training so far."""
        now = self.now()
        if self.uncounted > 0:
            self.uncounted -= 1
        else:
            self.elapsed += now - self.last
            self.steps += 1
        self.last = now
        return self.elapsed

    def skip(self) -> None:
        self.last = self.now()

    @property
    def rate(self) -> float:
        """Steps per second since this clock began; 0 before any step has counted."""
        return self.steps / (self.elapsed - self.began) if self.elapsed > self.began else 0.0

    def lap(self) -> float:
        """Steps per second since the last lap; 0 before any step has counted."""
        (steps, elapsed), self.lap_start = self.lap_start, (self.steps, self.elapsed)
        return (self.steps - steps) / (self.elapsed - elapsed) if self.elapsed > elapsed else 0.0
