"""Dynamics models that differ in one thing, trained for the same time on the same data, as a Markdown table.

    python benchmarks/ablations.py parts coinrun data/coinrun runs/tokenizer runs/parts --minutes 3
    python benchmarks/ablations.py labels coinrun data/coinrun runs/tokenizer runs/labels --devices cuda:0 cuda:1
    python benchmarks/ablations.py shortcut crafter data/crafter runs/tokenizer runs/shortcut --minutes 5 --plot k.png

Each row trains and is evaluated; what is there already is not trained again. Rows run side by side on --devices (one
named twice takes two). --plain-tokenizer RUN: one more row, on the latents of a tokenizer that was trained without
masking. Arguments after `--` go to every training.
"""

import argparse
import json
import queue
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from wakedream.presets.dynamics import dynamics_preset

TABLES = {
    "parts": {
        "all of it": [],
        "velocities predicted": ["--model.predict", "v"],
        "no ramp": ["--objective.no-ramp"],
        "no images": ["--loader.image-fraction", "0"],
        "more images, fewer long clips": ["--loader.image-fraction", "0.3", "--loader.long-fraction", "0.25"],
        "every fourth layer over time": ["--model.pattern", "space", "space", "space", "time"],
        "space and time in turns": ["--model.pattern", "space", "time"],
        "dense layers": ["--model.pattern", "dense"],
    },
    "labels": {f"{share:.0%} labelled": ["--loader.labelled", str(share)] for share in (0.0, 0.01, 0.1, 1.0)},
    "shortcut": {"shortcut": [], "flow alone": ["--objective.bootstrap-fraction", "0"]},
}
COLUMNS = ("", "PSNR at 8", "at 16", "LPIPS at 16", "Fréchet", "loss ratio, shuffled actions", "obeyed", "steps")


def wakedream(log: Path, *words: str) -> None:
    with open(log, "a", encoding="utf-8") as file:
        subprocess.run([sys.executable, "-m", "wakedream", *words], check=True, stdout=file, stderr=file)


def run_row(run: Path, options: argparse.Namespace, tokenizer: str, changes: list[str], extra: list[str],
            devices: "queue.Queue[str]") -> None:
    device, log = devices.get(), run.parent / f"{run.name}.log"
    try:
        wakedream(log, "train", "dynamics", options.preset, "--data", options.data, "--tokenizer", tokenizer, "--out",
                  str(run), "--train.minutes", str(options.minutes), "--train.device", device, *changes, *extra)
        wakedream(log, "evaluate", str(run), "--data", options.data, "--out", str(run / "report"), "--no-videos",
                  "--drift", "0", "--device", device, *options.evaluate.split())
    finally:
        devices.put(device)


def cells(name: str, run: Path) -> list[str]:
    report = json.loads((run / "report" / "metrics.json").read_text())
    train = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    at = {row["horizon"]: row for row in report["horizons"] if row["of"] == "dream"}
    four = [row for row in report["sampling"] if row.get("sampling_steps") == report["evaluated"]["sampling_steps"]]
    ratios = {row["actions"]: row["ratio"] for row in (report["actions"] or {"rows": []})["rows"]}
    shuffled = [value for actions, value in ratios.items() if "clips" in actions]

    def number(value: float | None, digits: int = 2) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    return [name, *(number(at.get(h, {}).get("psnr")) for h in (8, 16)), number(at.get(16, {}).get("lpips"), 3),
            number(four[0]["frechet"] if four else None), number(shuffled[0] if shuffled else None, 3),
            number((report["control"] or {}).get("obeyed")), f"{train[-1]['step']:,}"]


def plot_steps(path: Path, runs: dict[str, Path]) -> None:
    """Over the number of sampling steps: Fréchet distance and LPIPS with a context, Fréchet distance without."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = {"frechet": "Fréchet distance", "lpips_16": "LPIPS at 16", "frechet_start": "Fréchet, from nothing"}
    figure, panels = pyplot.subplots(1, 3, figsize=(12, 3.4), layout="constrained")
    for axes, (key, label) in zip(panels, shown.items(), strict=True):
        for name, run in runs.items():
            rows = json.loads((run / "report" / "metrics.json").read_text())["sampling"]
            rows = [row for row in rows if row["of"] == "dream" and key in row]
            axes.plot([row["sampling_steps"] for row in rows], [row[key] for row in rows], "o-", label=name)
        axes.set(xlabel="sampling steps K", ylabel=label)
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:.0f}")
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("preset")
    parser.add_argument("data")
    parser.add_argument("tokenizer")
    parser.add_argument("out", type=Path)
    parser.add_argument("--rows", nargs="+", help="only these, by name, in this order")
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--devices", nargs="+", default=["auto"])
    parser.add_argument("--plain-tokenizer")
    parser.add_argument("--evaluate", default="", help="options for every evaluation, as one text")
    parser.add_argument("--plot", type=Path, help="a picture over the number of sampling steps")
    words = sys.argv[1:]
    cut = words.index("--") if "--" in words else len(words)
    options, extra = parser.parse_args(words[:cut]), words[cut + 1 :]
    table = TABLES[options.table]
    if unknown := [name for name in options.rows or () if name not in table]:
        parser.error(f"--rows: {unknown[0]!r} is no row of {options.table}, these are: {', '.join(table)}")
    repeated = None if "--model.pattern" in extra else [  # the preset's own pattern, which the first row has
        "--model.pattern", *dynamics_preset(options.preset).model.pattern]
    rows = {name: (options.tokenizer, table[name])
            for name in options.rows or [name for name in table if table[name] != repeated]}
    if options.plain_tokenizer:
        rows["tokenizer without masking"] = (options.plain_tokenizer, [])
    options.out.mkdir(parents=True, exist_ok=True)
    runs = {name: options.out / name.replace(" ", "-").replace("%", "percent") for name in rows}
    devices: queue.Queue[str] = queue.Queue()
    for device in options.devices:
        devices.put(device)
    with ThreadPoolExecutor(len(options.devices)) as pool:
        work = [pool.submit(run_row, runs[name], options, *row, extra, devices) for name, row in rows.items()]
        for one in work:
            one.result()
    print("| " + " | ".join(COLUMNS) + " |\n" + "|---" * len(COLUMNS) + "|")
    for name, run in runs.items():
        print("| " + " | ".join(cells(name, run)) + " |")
    if options.plot:
        plot_steps(options.plot, runs)


if __name__ == "__main__":
    main()
