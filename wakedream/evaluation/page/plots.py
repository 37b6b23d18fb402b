"""Curves and bars as SVG that takes its colours from the page and refers to nothing outside itself."""

import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from wakedream import runs

INK = "#010203"  # stands for the page's text colour
COLOURS = ("#2f80c2", "#d9793a", "#3f9c6b", "#9a63b5")  # readable on white and on black
BASELINES = ("mean_image", "last_frame")  # what ends in one of them stands beside the curve that it is compared with
SAME = 1e-6  # of their size: values no farther apart are one
NOT_PLOTTED = {"kind", "step", "lr", "skipped", "frames", "elapsed", "frames_per_second", "grad_norm"}

Curve = tuple[Sequence[float], Sequence[float]]
Bar = tuple[float, float | None, float | None]  # value, and the ends of its interval
Growing = tuple[list[float], list[float]]


def plot(
    curves: Mapping[str, Curve],
    x_label: str,
    y_label: str,
    log: bool = False,
    mark: tuple[float, str] | None = None,
    doubling: bool = False,
    bands: Mapping[str, Curve] | None = None,
) -> str:
    """Named curves (x, y) in one panel; `mark`: a vertical line at x, with its name; `doubling`: x in powers of 2;
    `bands`: lower and upper ends of a curve's intervals, by its name."""

    flat = _flat([value for _, y in curves.values() for value in y])
    log = log and flat is None

    def draw(figure: Any, axes: Any) -> None:
        for (name, (x, y)), colour in zip(curves.items(), COLOURS * len(curves), strict=False):
            axes.plot(x, y, color=colour, label=name, linewidth=1.8, marker="o" if len(x) < 12 else None, ms=4)
            if bands and name in bands:
                axes.fill_between(x, *bands[name], color=colour, alpha=0.2, linewidth=0)
        if mark:
            axes.axvline(mark[0], color=INK, linewidth=0.8, linestyle=":")
            axes.annotate(
                mark[1],
                (mark[0], 1),
                xycoords=("data", "axes fraction"),
                fontsize=8,
                xytext=(3, -2),
                textcoords="offset points",
                va="top",
            )
        axes.set(xlabel=x_label, ylabel=y_label, yscale="log" if log else "linear")
        if doubling:
            axes.set_xscale("log", base=2)
            ticks = sorted({value for x, _ in curves.values() for value in x})
            axes.set_xticks(ticks, [f"{value:g}" for value in ticks])
        else:
            axes.ticklabel_format(axis="x", useOffset=False)
        if not log:
            axes.ticklabel_format(axis="y", useOffset=False)  # 2.2001, not 1e-4 above 2.2
        if flat is not None and not bands:
            axes.set_ylim(*flat)
        axes.grid(color=INK, alpha=0.12, linewidth=0.6)
        _legend(figure, len(curves))

    return _panel(draw, 2.9)


def _flat(values: Sequence[float]) -> tuple[float, float] | None:
    """Limits around values that are all one but for rounding, which would else be drawn as if it mattered; None for
    others."""
    known = [value for value in values if math.isfinite(value)]
    if not known or max(known) - min(known) > SAME * max(map(abs, known)):
        return None
    middle = (max(known) + min(known)) / 2
    return middle - (abs(middle) / 10 or 1), middle + (abs(middle) / 10 or 1)


def bars(series: Mapping[str, Mapping[str, Bar]], x_label: str) -> str:
    """Bars with their intervals below one another, by name; those of several series side by side, by colour. Every
    series has the same names."""

    def draw(figure: Any, axes: Any) -> None:
        width = 0.8 / len(series)
        for i, ((name, values), colour) in enumerate(zip(series.items(), COLOURS * len(series), strict=False)):
            places = [k + (i - (len(series) - 1) / 2) * width for k in range(len(values))]
            lengths = [value for value, _, _ in values.values()]
            axes.barh(places, lengths, 0.9 * width, color=colour, label=name)
            for place, (_, low, high) in zip(places, values.values(), strict=True):
                if low is not None and high is not None:
                    axes.plot([low, high], [place, place], color=INK, linewidth=1.2, marker="|", ms=5)
        names = list(next(iter(series.values())))
        axes.set_yticks(range(len(names)), names)
        axes.set(xlabel=x_label, ylim=(len(names) - 0.5, -0.5))  # the first on top
        axes.ticklabel_format(axis="x", useOffset=False)
        axes.set_axisbelow(True)
        axes.grid(axis="x", color=INK, alpha=0.12, linewidth=0.6)
        _legend(figure, len(series))

    return _panel(draw, 0.9 + sum(0.12 + 0.14 * len(series) for _ in next(iter(series.values()))))


def _panel(draw: Callable[[Any, Any], None], height: float) -> str:
    """What `draw(figure, axes)` draws."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(
        {
            "svg.fonttype": "none",
            "font.family": "sans-serif",
            "font.size": 10,
            "text.color": INK,
            "axes.edgecolor": INK,
            "axes.labelcolor": INK,
            "xtick.color": INK,
            "ytick.color": INK,
            "axes.spines.top": False,
            "axes.spines.right": False,
        }
    ):
        figure = Figure(figsize=(5.2, height), layout="constrained")
        draw(figure, figure.add_subplot())
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True)
    return _inline(buffer.getvalue())


def _legend(figure: Any, series: int) -> None:
    if series > 1:  # above the axes: nothing is drawn there
        figure.legend(loc="outside upper left", ncols=2, frameon=False, fontsize=9)


def training_curves(file: Path) -> dict[str, str]:
    """SVG by title from a run's metrics.jsonl: held-out numbers first, then losses. {} without the file; what was
    measured once is no curve."""
    lines = runs.log_lines(file)
    series = _series(lines)
    x_label = "minutes of training" if any("elapsed" in line for line in lines) else "step"
    plots = {}
    for (kind, name), curve in sorted(series.items(), key=lambda item: item[0][0] != "held_out"):
        if name.endswith(BASELINES) or len(curve[0]) < 2:
            continue
        log = kind != "held_out" and min(curve[1]) > 0
        known = [of for of in BASELINES if (kind, f"{name}_{of}") in series]
        beside = {of.replace("_", " "): series[kind, f"{name}_{of}"] for of in known}
        title = f"{kind.replace('_', '-')} {name}"
        plots[title] = plot({title: curve, **beside}, x_label, title, log)
    return plots


def _series(lines: list[dict[str, Any]]) -> dict[tuple[str, str], Growing]:
    """(kind, name) -> (minutes or steps, values). Lines without a time get that of the step before."""
    found: dict[tuple[str, str], Growing] = {}
    times = {line["step"]: line["elapsed"] / 60 for line in lines if "elapsed" in line}
    known = sorted(times)
    for line in lines:
        before = [step for step in known if step <= line["step"]][-1:] if known else []
        x = times[before[0]] if before else 0.0 if known else line["step"]
        for name, value in line.items():
            if name not in NOT_PLOTTED and isinstance(value, (int, float)):
                curve = found.setdefault((line.get("kind", "train"), name), ([], []))
                curve[0].append(x)
                curve[1].append(value)
    return found


def _inline(svg: str) -> str:
    """Without what a file of its own needs: prolog, metadata, namespaces, fixed size."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*pt"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*pt"', r'\1 class="plot"', svg, count=1)
    return svg.replace(INK, "currentColor")
