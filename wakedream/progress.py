"""Progress of long work: a bar with rate and time left on a terminal, plain lines elsewhere."""

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

LINE_EVERY = 10.0  # seconds between plain lines
QUIET_SECONDS = 2.0  # before a `late_bar` is shown


def counted(number: int | float, things: str) -> str:
    """1 clip, 2 clips, 3,000 clips, 0.5 minutes; `things` in the plural."""
    number = int(number) if number == int(number) else number
    return f"{number:,} {things.removesuffix('s') if number == 1 else things}"


def lasted(seconds: float) -> str:
    """In minutes, what took less than one in seconds: 1.5 minutes, 42 seconds."""
    return counted(round(seconds), "seconds") if seconds < 59.5 else f"{seconds / 60:.1f} minutes"


class ProgressBar:
    """`with ProgressBar("recording", total, "frames") as bar: bar.advance(10, loss="0.12")`"""

    def __init__(self, label: str, total: float | int | None, unit: str, initial: float | int = 0):
        self.label, self.total, self.unit = label, total, unit
        self.done = self.initial = initial
        self.printed = ""
        self.note, self.rate, self.left = "", 0.0, math.inf
        self.started = self.last_line = time.monotonic()
        self.bar: Progress | None = None
        if sys.stderr.isatty():
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[text]}"),
                TimeElapsedColumn(),
                TextColumn("{task.fields[left]}"),
            )
            self.bar = Progress(*columns, console=Console(stderr=True))

    def __enter__(self) -> "ProgressBar":
        if self.bar:
            self.bar.start()
            self.task = self.bar.add_task(self.label, total=self.total, completed=int(self.initial), text="", left="")
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.bar:
            self.bar.stop()
        else:
            self._line()

    def advance(self, amount: float | int = 1, **shown: Any) -> None:
        self.update(self.done + amount, **shown)

    def update(self, done: float | int, *, pace: tuple[float, float] | None = None, **shown: object) -> None:
        """Set what is done (absolute); keyword arguments are shown beside it.

        pace: units a second (0: not known yet) and seconds left, where the caller knows better than the mean since the
        beginning
        """
        self.done = done
        self.rate, self.left = pace or self._mean()
        if shown:
            self.note = "  ".join(f"{name} {value}" for name, value in shown.items())
        if self.bar:
            self.bar.update(self.task, completed=done, total=self.total, text=self._text(), left=self._left())
        elif time.monotonic() - self.last_line >= LINE_EVERY:
            self._line()

    def _mean(self) -> tuple[float, float]:
        rate = (self.done - self.initial) / max(time.monotonic() - self.started, 1e-9)
        return rate, (self.total - self.done) / rate if self.total and rate else math.inf

    def _text(self) -> str:
        total = f"/{self.total:,.0f}" if self.total else ""
        rate = f"  {self.rate:,.1f} {self.unit}/s" if self.rate else ""
        return f"{self.done:,.0f}{total} {self.unit}{rate}  {self.note}".rstrip()

    def _left(self) -> str:
        return f"{max(0.0, self.left):,.0f} s left" if self.left < math.inf else ""

    def _line(self) -> None:
        self.last_line = time.monotonic()
        line = f"{self.label}: {self._text()}  {self._left()}".rstrip()
        if line != self.printed:  # the last one comes again when the bar ends
            print(line, file=sys.stderr, flush=True)
        self.printed = line


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
