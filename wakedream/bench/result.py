"""One row of a benchmark's table."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from wakedream.bench.machine import Machine
from wakedream.bench.timing import Spread


@dataclass(frozen=True)
class Result:
    """What was measured, under which settings.

    seconds          of one `per`: a step, a frame of every stream, a batch, a video frame; None if it failed
    frames           in one `per`
    flops, bytes     that one `per` cannot do without (docs/benchmarks.md), to be held against the machine's limits
    precision        of the products, which decides the matrix rate that they are held against
    compile_seconds  the first calls, beyond what as many calls take later: compiling, recording, tuning
    faster           than the plain implementation measured in turns with this one, times
    """

    benchmark: str
    settings: dict[str, Any]
    per: str
    seconds: Spread | None
    frames: float = 1.0
    flops: float | None = None
    bytes: float | None = None
    precision: str = "float32"
    memory_gib: float | None = None
    compile_seconds: float | None = None
    attention: Sequence[str] = ()
    faster: Spread | None = None
    notes: Sequence[str] = ()
    more: dict[str, float] = field(default_factory=dict)

    @property
    def frames_per_second(self) -> float | None:
        return self.frames / self.seconds.median if self.seconds else None

    def matrix_share(self, machine: Machine) -> float | None:
        """Of the matrix rate."""
        if not (self.flops and self.seconds):
            return None
        return self.flops / self.seconds.median / machine.matrix[self.precision]

    def copy_share(self, machine: Machine) -> float | None:
        """Of the copy bandwidth."""
        return self.bytes / self.seconds.median / machine.copy if self.bytes and self.seconds else None

    def as_json(self, machine: Machine) -> dict[str, Any]:
        spread = self.seconds
        return {
            "benchmark": self.benchmark,
            "settings": self.settings,
            "per": self.per,
            "median_ms": spread and 1e3 * spread.median,
            "low_ms": spread and 1e3 * spread.low,
            "high_ms": spread and 1e3 * spread.high,
            "frames_per_second": self.frames_per_second,
            "flops": self.flops,
            "bytes": self.bytes,
            "precision": self.precision,
            "matrix_share": self.matrix_share(machine),
            "copy_share": self.copy_share(machine),
            "memory_gib": self.memory_gib,
            "compile_seconds": self.compile_seconds,
            "attention_kernels": list(self.attention),
            "faster_than_plain": self.faster and vars(self.faster),
            "notes": list(self.notes),
            **self.more,
        }
