"""A signal that comes while something must not be broken off is heard afterwards."""

import os
import signal
import threading
from contextlib import contextmanager

import pytest
import torch

from wakedream.errors import Interrupted
from wakedream.model.graph import Recorded
from wakedream.runs import deferred_signals

SIGNALS = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


@pytest.fixture(autouse=True)
def interrupts():
    """As the command line has it."""
    def stop(number, frame):
        raise Interrupted(number, "stopped")

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    yield stop
    for number, handler in before.items():
        signal.signal(number, handler)


@SIGNALS
def test_a_signal_waits_until_the_block_is_done(number, interrupts) -> None:
    done = []

    def work() -> None:
        with deferred_signals():
            os.kill(os.getpid(), number)
            done.append(1)

    with pytest.raises(Interrupted) as stopped:
        work()
    assert done == [1]
    assert stopped.value.signal == number
    assert signal.getsignal(number) is interrupts
    with pytest.raises(Interrupted):
        os.kill(os.getpid(), number)


def test_without_signals_and_in_other_threads_nothing_happens() -> None:
    done = []

    def work() -> None:
        with deferred_signals():
            done.append(1)

    work()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [1, 1]


@contextmanager
def stand_in(graph, **options):
    """Instead of a GPU's recording, which must not be left by an exception: it would never end."""
    graph.ended = False
    yield
    graph.ended = True


class StandIn:
    ended = None

    def replay(self) -> None:
        pass


@SIGNALS
def test_recording_a_graph_is_not_broken_off(monkeypatch, number) -> None:
    made = []
    monkeypatch.setattr(torch.cuda, "graph", stand_in)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: made.append(StandIn()) or made[-1])
    monkeypatch.setattr(Recorded, "_warm_up", lambda self: None)

    def function(x):
        if len(made) == 1:
            os.kill(os.getpid(), number)
        return x + 1

    recorded = Recorded(function)
    with pytest.raises(Interrupted):
        recorded._record([torch.zeros(1)])
    assert [graph.ended for graph in made] == [True]
    assert recorded.graph is None, "what was interrupted is replayed"
    recorded._record([torch.zeros(1)])
    assert recorded.graph is made[1]
    assert recorded.output == 1
