"""Ctrl-C and SIGTERM: finish the step, save, stop. Imports no torch."""

import signal
import sys
from types import FrameType, TracebackType

from wakedream.errors import Interrupted


class Interruption:
    """`with Interruption() as asked:` the first signal sets `asked.signal`, the second raises Interrupted.

    speaks: one process of a run says that it was heard.
    """

    def __init__(self, speaks: bool = True) -> None:
        self.signal: int | None = None
        self.speaks = speaks

    def __enter__(self) -> "Interruption":
        signals = (signal.SIGINT, signal.SIGTERM)
        self.before = {number: signal.signal(number, self._handle) for number in signals}
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            raise Interrupted(number, "stopped at once; the last checkpoint stays")
        self.signal = number
        if self.speaks:
            print("stopping after this step; once more to stop at once", file=sys.stderr, flush=True)
