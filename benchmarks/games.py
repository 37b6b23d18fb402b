"""One recipe of the tokenizer over many games: what it draws of the whole picture, and of what moves.

    python benchmarks/games.py data/pong data/breakout ... --out runs/games --preset crafter --options --train.minutes 1
    python benchmarks/games.py data/* --out runs/games --gpus 0 1 --together 2 --options --train.steps 4000

Trains and evaluates each data set by the commands of the package, in processes of their own, and leaves OUT/games.json,
a table, and OUT/games.png: truth above reconstruction, a row of both for each game. What was trained already is not
trained again. `--together` several on one GPU slow one another: for equal steps, not for equal minutes.
"""

import argparse
import json
import queue
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from gpus import add_option, environment, to_lend

from wakedream.bench.machine import device_name
from wakedream.device import pick_device

STRIPS = 3  # of a report's picture: truth, reconstruction, error; where there was masking, two of masked frames
KEPT = ("psnr", "psnr_moving", "lpips", "ssim")


def run(data: Path, options: argparse.Namespace, gpus: "queue.Queue[str]") -> dict[str, Any]:
    """Trained and evaluated; what came of it."""
    out, gpu = options.out / data.name, gpus.get()
    seen, lpips = ["--data", str(data), "--out"], [] if options.lpips else ["--no-lpips"]
    commands = (["train", "tokenizer", options.preset, *seen, str(out / "run"), *options.options],
                ["evaluate", str(out / "run"), *seen, str(out / "report"), "--no-videos", *lpips])
    out.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    with open(out / "log.txt", "a") as log:
        for command in commands:
            words = [sys.executable, "-m", "wakedream", *command]
            failed = subprocess.run(words, env=environment(gpu), stdout=log, stderr=log).returncode
            if command[0] == "train":
                gpus.put(gpu)  # the next compiles while this one is evaluated
            if failed:
                break
    found = result(data, out)
    print(json.dumps({**found, "seconds": round(time.perf_counter() - began)}), flush=True)
    return found


def result(data: Path, out: Path) -> dict[str, Any]:
    """Of the whole, and of the mean image, which knows nothing."""
    file = out / "report" / "metrics.json"
    if not file.exists():
        return {"game": data.name, "failed": (out / "log.txt").read_text()[-400:]}
    results = json.loads(file.read_text())
    own, mean = results["reconstruction"][:2]
    return {"game": data.name, **{name: round(own[name], 3) for name in KEPT if name in own},
            "mean_image_moving": round(mean.get("psnr_moving", float("nan")), 2), "verdict": bool(results["verdict"]),
            **results["training"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", type=Path, help="data sets")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--preset", default="crafter")
    add_option(parser)
    parser.add_argument("--together", type=int, default=1, help="data sets at a time on each")
    parser.add_argument("--lpips", action=argparse.BooleanOptionalAction, default=True, help="evaluate with LPIPS")
    parser.add_argument("--options", nargs=argparse.REMAINDER, default=[], help="of the training; the last one here")
    options = parser.parse_args()
    gpus = to_lend([*options.gpus] * options.together)
    with ThreadPoolExecutor(2 * gpus.qsize()) as pool:  # half of them evaluate
        rows = list(pool.map(lambda data: run(data, options, gpus), options.data))
    about = {"device": device_name(pick_device("auto")), "torch": str(torch.__version__),
             "date": time.strftime("%Y-%m-%d"), "preset": options.preset, "options": options.options}
    (options.out / "games.json").write_text(json.dumps({**about, "games": rows}, indent=1) + "\n")
    print(table(rows))
    picture([options.out / data.name / "report" for data in options.data], options.out / "games.png")


def table(rows: list[dict[str, Any]]) -> str:
    lines = ["| game | PSNR | on what moves | mean image there | LPIPS | steps |", "|---|---|---|---|---|---|"]
    for row in rows:
        cells = [row["game"], *(_cell(row, name, ".1f") for name in ("psnr", "psnr_moving", "mean_image_moving")),
                 _cell(row, "lpips", ".4f"), _cell(row, "steps", ",")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(row: dict[str, Any], name: str, form: str) -> str:
    return format(row[name], form) if name in row else "failed" if "failed" in row else "-"


def picture(reports: list[Path], out: Path) -> None:
    """The reports' first two strips, below one another."""
    from PIL import Image

    images = []
    for report in reports:
        if (path := report / "reconstruction.png").exists():
            image, results = Image.open(path), json.loads((report / "metrics.json").read_text())
            strips = STRIPS + 2 * any(row["ratio"] for row in results["by_mask_ratio"])
            images.append(image.crop((0, 0, image.width, image.height * 2 // strips)))
    if images:
        whole = Image.new("RGB", (max(image.width for image in images), sum(image.height for image in images)), "white")
        top = 0
        for image in images:
            whole.paste(image, (0, top))
            top += image.height
        whole.save(out)


if __name__ == "__main__":
    main()
