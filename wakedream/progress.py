"""Progress of long work: a bar with rate and time left on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

LINE_EVERY = 10.0  # seconds between plain lines
QUIET_SECONDS = 2.0  # before a `late_bar` is shown


class ProgressBar:
    """`with ProgressBar("recording", total, "frames") as bar: bar.advance(10, loss="0.12")`"""

    def __init__(self, label: str, total: float | int | None, unit: str, initial: float | int = 0):
        self.label, self.total, self.unit = label, total, unit
        self.done = self.initial = initial
        self.note = ""
        self.started = self.last_line = time.monotonic()
        self.bar: Progress | None = None
        if sys.stderr.isatty():
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[text]}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(elapsed_when_finished=True),
            )
            self.bar = Progress(*columns, console=Console(stderr=True))

    def __enter__(self) -> "ProgressBar":
        if self.bar:
            self.bar.start()
            self.task = self.bar.add_task(self.label, total=self.total, completed=int(self.initial), text="")
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.bar:
            self.bar.stop()
        else:
            self._line()

    def advance(self, amount: float | int = 1, **shown: object) -> None:
        self.update(self.done + amount, **shown)

    def update(self, done: float | int, **shown: object) -> None:
        """Set what is done (absolute); keyword arguments are shown beside it."""
        self.done = done
        if shown:
            self.note = "  ".join(f"{name} {value}" for name, value in shown.items())
        if self.bar:
            self.bar.update(self.task, completed=done, text=self._text())
        elif time.monotonic() - self.last_line >= LINE_EVERY:
            self._line()

    def _text(self) -> str:
        rate = (self.done - self.initial) / max(time.monotonic() - self.started, 1e-9)
        total = f"/{self.total:,.0f}" if self.total else ""
        return f"{self.done:,.0f}{total} {self.unit}  {rate:,.1f} {self.unit}/s  {self.note}".rstrip()

    def _line(self) -> None:
        self.last_line = time.monotonic()
        elapsed = self.last_line - self.started
        left = ""
        if self.total and self.done > self.initial:
            left = f"  {(self.total - self.done) * elapsed / (self.done - self.initial):,.0f} s left"
        print(f"{self.label}: {self._text()}{left}", file=sys.stderr, flush=True)


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
