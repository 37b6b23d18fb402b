"""Learning curves of runs as a picture: `python benchmarks/curves.py OUT.png NAME=RUN/metrics.jsonl ...`.

Left: held-out PSNR (averaged weights, nothing masked) over minutes of training. Right: training MSE and LPIPS.
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

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    for index, (name, path) in enumerate(run.split("=", 1) for run in runs):
        train, held_out = read(Path(path))
        minutes = {line["step"]: line["elapsed"] / 60 for line in train}
        known = [line for line in held_out if line["step"] in minutes]
        left.plot([minutes[line["step"]] for line in known], [line["psnr"] for line in known], "o-", label=name)
        times = [line["elapsed"] / 60 for line in train]
        right.plot(times, [line["mse"] for line in train], color=f"C{index}", label=f"{name}, MSE")
        if "lpips" in train[-1]:
            right.plot(times, [line["lpips"] for line in train], ":", color=f"C{index}", label=f"{name}, LPIPS")
    left.set(xlabel="minutes of training", ylabel="held-out PSNR, dB")
    right.set(xlabel="minutes of training", ylabel="training loss, masked input", yscale="log")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(out, dpi=100)


if __name__ == "__main__":
    main(*sys.argv[1:])
