"""Statistics on known numbers, and who is called when."""

import pytest
import torch

from wakedream.bench import timing
from wakedream.bench.timing import Peak, Spread, repeat, warm_up

CPU = torch.device("cpu")


def test_median_and_spread() -> None:
    assert Spread.of([float(value) for value in range(101)]) == Spread(50, 10, 90)
    assert Spread.of([3.0]) == Spread(3, 3, 3)
    assert Spread.of([1.0, 2.0, 3.0, 1000.0]).median == 2.5


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """A clock that stands still unless work moves it."""
    now = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    return now


def test_works_take_turns_and_fill_the_time(clock) -> None:
    calls: list[str] = []

    def work(name: str, seconds: float):
        def run() -> None:
            calls.append(name)
            clock[0] += seconds
        return run

    quick, slow = repeat([work("a", 0.25), work("b", 1.0)], CPU, seconds=4, repeats=4)
    assert quick == [0.25] * 4 and slow == [1.0] * 4
    assert "".join(calls) == "ab" + "aaaab" * 4  # one call each to find out how many fill a part


def test_warm_up_counts_its_calls(clock) -> None:
    def work() -> None:
        clock[0] += 2.0

    assert warm_up(work, CPU, 5) == (10.0, 5)
    assert warm_up(work, CPU)[1] == timing.WARMUP["cpu"]


def test_peak_memory_sees_what_was_used_and_freed() -> None:
    peak = Peak(CPU)
    before = peak.gib()
    if before is None:
        pytest.skip("this system does not say how much memory a process uses")
    torch.ones(2**27, dtype=torch.uint8)
    after = peak.gib()
    assert 0.1 < after - before < 0.2
    assert Peak(CPU).gib() < before + 0.05  # the next one starts anew
