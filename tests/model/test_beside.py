"""Who waits for whom: the caller's stream always, the other one only where it must."""

from contextlib import contextmanager

import pytest
import torch

from wakedream.model.beside import Beside, follow_all
from wakedream.model.stepwise import Guest, Turns


class Stream:
    def __init__(self, name):
        self.name = name

    def wait_stream(self, other):
        WAITED.append((self.name, other.name))


class Seat:
    def state(self):
        return None

    load = reset = lambda self, *_: None


WAITED: list[tuple[str, str]] = []
STEP = [("caller", "own")]  # what comes of it is waited for


@pytest.fixture
def turns(monkeypatch):
    """A seat on a GPU that there is not."""
    current = [Stream("caller")]

    @contextmanager
    def stream(entered):
        current.append(entered)
        yield
        current.pop()

    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: current[-1])
    monkeypatch.setattr(torch.cuda, "stream", stream)
    monkeypatch.setattr(Beside, "stream", Stream("own"))
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda *_: None)
    return Turns(Seat(), torch.device("cuda", 0))


def waited(work):
    WAITED.clear()
    work()
    return list(WAITED)


def test_a_step_waits_for_what_was_done_with_the_seat_and_for_nothing_else(turns):
    one, other = Guest(), Guest()

    def step(guest=one):
        turns.run_beside(guest, lambda _seat: torch.zeros(1), [torch.zeros(1)])

    for touch in (lambda: turns.take(one), lambda: turns.take(other), lambda: step(other), follow_all):
        step()
        assert waited(step) == STEP and waited(step) == STEP
        touch()
        assert waited(step)[-2:] == [("own", "caller"), *STEP] and waited(step) == STEP
    assert waited(lambda: turns.take(one)) == STEP and waited(lambda: turns.take(one)) == []


def test_on_a_cpu_nothing_is_waited_for():
    turns = Turns(Seat(), torch.device("cpu"))
    assert turns.run_beside(Guest(), lambda _seat: torch.ones(1), []) == 1
