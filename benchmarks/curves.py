"""Learning curves of runs as a picture: `python benchmarks/curves.py OUT.png NAME=RUN/metrics.jsonl ...`.

Left: held-out PSNR (averaged weights, nothing masked) over minutes of training; then held-out LPIPS, where runs have
it. Right: training MSE and LPIPS.
"""

import json
import sys
from pathlib import Path


def read(path: Path) -> tuple[list[dict], list[dict]]:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return ([line for line in lines if line["kind"] == "train"], [line for line in lines if line["kind"] == "held_out"])


def main(out: str, *runs: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    curves = {name: read(Path(path)) for name, path in (run.split("=", 1) for run in runs)}
    seen = [key for key in ("psnr", "lpips") if any(key in held_out[-1] for _, held_out in curves.values())]
    figure, panels = pyplot.subplots(1, len(seen) + 1, figsize=(5 * len(seen) + 5, 3.6), layout="constrained")
    *lefts, right = panels
    for index, (name, (train, held_out)) in enumerate(curves.items()):
        minutes = {line["step"]: line["elapsed"] / 60 for line in train}
        known = [line for line in held_out if line["step"] in minutes]
        for axes, key in zip(lefts, seen, strict=True):
            there = [line for line in known if key in line]
            axes.plot([minutes[line["step"]] for line in there], [line[key] for line in there], "o-",
                      color=f"C{index}", label=name)
        times = [line["elapsed"] / 60 for line in train]
        right.plot(times, [line["mse"] for line in train], color=f"C{index}", label=f"{name}, MSE")
        if "lpips" in train[-1]:
            right.plot(times, [line["lpips"] for line in train], ":", color=f"C{index}", label=f"{name}, LPIPS")
    for axes, key in zip(lefts, seen, strict=True):
        axes.set(xlabel="minutes of training", ylabel={"psnr": "held-out PSNR, dB", "lpips": "held-out LPIPS"}[key])
    right.set(xlabel="minutes of training", ylabel="training loss, masked input", yscale="log")
    for axes in panels:
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(out, dpi=100)


if __name__ == "__main__":
    main(*sys.argv[1:])
