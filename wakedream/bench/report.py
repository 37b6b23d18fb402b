"""Results as Markdown tables on the console, row by row, and as a JSON file."""

from pathlib import Path
from typing import Any

from wakedream import runs
from wakedream.bench.machine import Machine
from wakedream.bench.result import Result


class Report:
    """Prints each result as it comes; with `out`, the file holds what has been measured so far."""

    def __init__(self, machine: Machine, out: Path | None = None):
        self.machine, self.out = machine, out
        self.results: list[Result] = []
        self._footnotes: list[str] = []
        print(_machine_text(machine), flush=True)

    def add(self, result: Result) -> None:
        if not self.results or self.results[-1].benchmark != result.benchmark:
            self.end_table()
            print(f"\n### {result.benchmark}\n\n{_line(_columns(result, self.machine).keys())}")
            print(_line("---" for _ in _columns(result, self.machine)), flush=True)
        self.results.append(result)
        print(_line(_columns(result, self.machine).values()), flush=True)
        self._footnotes += _footnotes(result)
        if self.out:
            runs.write_json(self.out, self.as_json())

    def end_table(self) -> None:
        """What belongs under the table: which attention ran, notes; alike ones once."""
        if self._footnotes:
            print("\n" + "\n".join(dict.fromkeys(self._footnotes)), flush=True)
        self._footnotes = []

    def as_json(self) -> dict[str, Any]:
        machine = {**vars(self.machine), "device": str(self.machine.device)}
        return {"format": 1, "machine": machine,
                "results": [result.as_json(self.machine) for result in self.results]}


def _machine_text(machine: Machine) -> str:
    rates = ", ".join(f"{rate / 1e12:.3g} TFLOP/s {name}" for name, rate in machine.matrix.items())
    return (f"{machine.name} ({machine.device}), torch {machine.torch}, {machine.threads} threads, {machine.date}\n"
            f"measured limits: {rates} (dense product), {machine.copy / 1e9:.4g} GB/s (copy, read plus written)")


def _columns(result: Result, machine: Machine) -> dict[str, str]:
    spread, faster = result.seconds, result.faster
    return {
        "settings": describe(result),
        f"ms per {result.per} (10-90 %)":
            f"{1e3 * spread.median:.4g} ({1e3 * spread.low:.4g}-{1e3 * spread.high:.4g})" if spread else "failed",
        "frames/s": _number(result.frames_per_second, ",.0f" if (result.frames_per_second or 0) >= 100 else ".3g"),
        "of matrix rate": _number(result.matrix_share(machine), ".1%"),
        "of copy rate": _number(result.copy_share(machine), ".1%"),
        "memory, GiB": _number(result.memory_gib, ".2f"),
        "compile, s": _number(result.compile_seconds, ".1f"),
        "times plain": f"{faster.median:.2f} ({faster.low:.2f}-{faster.high:.2f})" if faster else "",
    }


def describe(result: Result) -> str:
    """The settings in words: named where the value alone says nothing."""
    return ", ".join(str(value) if isinstance(value, str) else f"{name.replace('_', ' ')} {value}"
                     for name, value in result.settings.items())


def _footnotes(result: Result) -> list[str]:
    lines = [f"{describe(result)}: attention by {'; '.join(result.attention)}"] if result.attention else []
    return lines + [f"{describe(result)}: {note}" for note in result.notes]


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _line(cells) -> str:
    return f"| {' | '.join(cells)} |"
