"""Ctrl-C and SIGTERM: finish the step, save, stop. Imports no torch."""

import signal
import sys
import time
from types import FrameType, TracebackType

from wakedream.errors import Interrupted


class Interruption:
    """`with Interruption() as asked:` the first signal sets `asked.signal`, the second raises Interrupted.

    speaks: one process of a run says that it was heard. apart: seconds within which all signals are one: a scheduler
    and a terminal send theirs to all processes, and torchrun, which gets it too, passes it on.
    """

    def __init__(self, speaks: bool = True, apart: float = 0.0) -> None:
        self.signal: int | None = None
        self.heard = 0.0  # when
        self.speaks, self.apart = speaks, apart

    def __enter__(self) -> "Interruption":
        signals = (signal.SIGINT, signal.SIGTERM)
        self.before = {number: signal.signal(number, self._handle) for number in signals}
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            if time.monotonic() - self.heard < self.apart:
                return
            raise Interrupted(number, "stopped at once; the last checkpoint stays")
        self.signal, self.heard = number, time.monotonic()
        if self.speaks:
            print("stopping after this step; once more to stop at once", file=sys.stderr, flush=True)
