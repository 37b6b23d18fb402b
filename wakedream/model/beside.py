"""What is computed beside what the caller of it still computes: a second stream of a GPU, kept in order with the first.

    step t      caller's stream            | decode t   | decode t+1 |
                own stream      | dream t  | dream t+1  | dream t+2  |
"""

import functools
import weakref
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

_all: "weakref.WeakSet[Beside]" = weakref.WeakSet()


class Beside:
    """Something that is worked on now on a caller's stream, now on one of its own (`run`); each `follow`s the other.

    So the own stream waits for the caller's where that has touched it since, and for nothing else that is still to be
    done there. On a CPU there are no streams, and nothing here does anything.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self._last: torch.cuda.Stream | None = None
        _all.add(self)

    @functools.cached_property
    def stream(self) -> torch.cuda.Stream:
        """Its own; what runs beside it takes what it leaves of the GPU."""
        return torch.cuda.Stream(self.device, priority=-1)

    def follow(self) -> None:
        """Before the current stream touches it."""
        if self.device.type == "cuda":
            now = torch.cuda.current_stream(self.device)
            if self._last is not None and self._last != now:
                now.wait_stream(self._last)
            self._last = now

    def run(self, work: Callable[[], Tensor], inputs: Iterable[Tensor] = ()) -> Tensor:
        """Work on the own stream; the caller's waits for it, so what is returned can be used at once.

        inputs: of the work; those on the device come from the caller's stream, which is then waited for.
        """
        if self.device.type != "cuda":
            return work()
        caller = torch.cuda.current_stream(self.device)
        if any(one.is_cuda for one in inputs):
            self.stream.wait_stream(caller)
        with torch.cuda.stream(self.stream):
            self.follow()
            made = work()
        caller.wait_stream(self.stream)  # and so whatever it does next with the inputs' memory comes after
        made.record_stream(caller)
        return made


def follow_all() -> None:
    """Before the current stream touches what all of them may read."""
    for one in list(_all):
        one.follow()
