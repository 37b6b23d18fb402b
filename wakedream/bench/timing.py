"""How long a call takes: warm-up, repeats, median and spread, memory."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

WARMUP = {"cuda": 12, "cpu": 3}  # calls: graphs are recorded within the first few
Work = Callable[[], object]


@dataclass(frozen=True)
class Spread:
    """The median of repeated measurements, and the 10th and 90th percentile."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        low, median, high = np.percentile(values, (10, 50, 90))
        return cls(float(median), float(low), float(high))


def wait(device: torch.device) -> None:
    """For the device to finish what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def warm_up(work: Work, device: torch.device, calls: int | None = None) -> tuple[float, int]:
    """Call until compiled, recorded and tuned: the seconds that took, and how many calls."""
    calls = calls or WARMUP[device.type]
    seconds = _clock(work, device, calls)
    return seconds, calls


def repeat(works: Sequence[Work], device: torch.device, seconds: float, repeats: int) -> list[list[float]]:
    """Seconds of one call, `repeats` times for each work, the works taking turns: A B A B ...

    A repeat is as many calls as fill `seconds / repeats`, the device waited for at its end alone, as in
    training. So launches that run ahead of the device count as they do there.
    """
    once = [_clock(work, device, 1) for work in works]
    calls = [max(1, math.ceil(seconds / repeats / max(each, 1e-9))) for each in once]
    times: list[list[float]] = [[] for _ in works]
    for _ in range(repeats):
        for i, work in enumerate(works):
            times[i].append(_clock(work, device, calls[i]) / calls[i])
    return times


def _clock(work: Work, device: torch.device, calls: int) -> float:
    wait(device)
    began = time.perf_counter()
    for _ in range(calls):
        work()
    wait(device)
    return time.perf_counter() - began


class Peak:
    """The most memory in use since this was made. GPU: tensors, beyond those there before. CPU: the whole process."""

    def __init__(self, device: torch.device):
        self.device, self.before = device, 0
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self.before = torch.cuda.memory_allocated(device)
        elif Path("/proc/self/clear_refs").exists():
            Path("/proc/self/clear_refs").write_text("5")  # Linux: the high-water mark starts anew

    def gib(self) -> float | None:
        """None where the system does not say."""
        if self.device.type == "cuda":
            return (torch.cuda.max_memory_allocated(self.device) - self.before) / 2**30
        status = Path("/proc/self/status")
        if not status.exists():
            return None
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) / 2**20
