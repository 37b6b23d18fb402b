"""Presets on the same data, for the same time and for the same number of frames, as a Markdown table.

    python benchmarks/compare.py data/crafter runs/compare seed crafter --minutes 2

Each preset trains for `--minutes`; then those that took more steps than the slowest train again for its steps.
Presets must share batch size and clip length. Arguments after `--` go to every training.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path


def wakedream(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "wakedream", *words], check=True)


def train(preset: str, data: str, run: Path, *options: str) -> int:
    """Train and evaluate; the number of steps."""
    wakedream("train", "tokenizer", preset, "--data", data, "--out", str(run), *options)
    wakedream("evaluate", str(run), "--data", data, "--out", str(run / "report"), "--no-videos")
    return last_line(run)["step"]


def last_line(run: Path) -> dict:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == "train"][-1]


def row(name: str, run: Path) -> str:
    line, report = last_line(run), json.loads((run / "report" / "metrics.json").read_text())
    own = report["reconstruction"][0]
    memory = f"{line['memory_gib']:.1f}" if "memory_gib" in line else "-"
    cells = (
        name,
        f"{report['tokenizer']['parameters'] / 1e6:.1f} M",
        f"{line['frames']:,}",
        f"{line['elapsed']:.0f}",
        f"{own['psnr']:.1f}",
        f"{own['lpips']:.4f}",
        f"{line['frames'] / line['elapsed']:,.0f}",
        memory,
    )
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("out", type=Path)
    parser.add_argument("presets", nargs="+")
    parser.add_argument("--minutes", type=float, default=2.0)
    words = sys.argv[1:]
    cut = words.index("--") if "--" in words else len(words)
    options, extra = parser.parse_args(words[:cut]), words[cut + 1 :]
    runs, steps = {}, {}
    for preset in options.presets:
        run = runs[f"{preset}, same time"] = options.out / f"{preset}-time"
        steps[preset] = train(preset, options.data, run, "--train.minutes", str(options.minutes), *extra)
    fewest = min(steps.values())
    for preset in options.presets:
        run = runs[f"{preset}, same frames"] = (
            options.out / f"{preset}-{'time' if steps[preset] == fewest else 'frames'}"
        )
        if steps[preset] > fewest:
            train(preset, options.data, run, "--train.minutes", "None", "--train.steps", str(fewest), *extra)
    print("| preset | parameters | frames seen | seconds | PSNR, dB | LPIPS | frames/s | memory, GiB |")
    print("|---|---|---|---|---|---|---|---|")
    print("\n".join(row(name, run) for name, run in runs.items()))


if __name__ == "__main__":
    main()
