"""Progress that shows itself only when there is something to wait for."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from wakedream.progress import ProgressBar

QUIET_SECONDS = 2.0


@contextmanager
def late_bar(label: str, total: int, unit: str, show: bool = True) -> Iterator[Callable[[int], None]]:
    """`with late_bar("encoding", total, "frames") as advance: advance(16)`: a bar, once it has taken 2 seconds."""
    began, done, bar = time.monotonic(), 0, None
    with ExitStack() as stack:
        def advance(amount: int) -> None:
            nonlocal done, bar
            done += amount
            if bar:
                bar.update(done)
            elif show and time.monotonic() - began > QUIET_SECONDS:
                bar = stack.enter_context(ProgressBar(label, total, unit, initial=done))

        yield advance
