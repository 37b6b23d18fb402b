"""Are dreams what they were? One world's held-out dreams beside those that cloning, or more training, made of it.

    python benchmarks/kept_dreams.py runs/dynamics runs/agent [MORE] --data data/doorkey --out kept.json

All dream the same clips, 16 frames after 16, under the same actions with the same noise, `--seeds` times. Of each: the
PSNR on what moves, of the error pooled over all and of the frames 1, 4 and 16 after the context, and LPIPS (lower is
nearer): where the future is open, PSNR likes a blur. Beside the first: the mean of the clips' own differences with its
95 % interval (bootstrap over clips). Clips of one episode resemble each other: many episodes (`wakedream record ...
--held-out 0.8 --seed 77`) tell more than many clips, and another training (`--train.seed`) more than either.
"""

import argparse
import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

import wakedream as wd
from wakedream.bench.machine import device_name
from wakedream.data.background import background
from wakedream.data.store import Store
from wakedream.device import pick_device
from wakedream.evaluation.agent.intervals import difference
from wakedream.evaluation.dynamics.rollouts import pictures_of, roll_out
from wakedream.evaluation.dynamics.windows import dream_clips
from wakedream.evaluation.metrics import ReconstructionMetrics
from wakedream.perceptual.lpips import LPIPS
from wakedream.runs import write_json

CONTEXT, HORIZON = 16, 16
SHOWN = (1, 4, HORIZON)
ROWS = 64  # clips decoded at a time
UNITS = {"psnr_moving": "dB on what moves", "lpips": "LPIPS"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("worlds", nargs="+", help="run folders of dynamics models or agents; the first is the measure")
    parser.add_argument("--data", required=True)
    parser.add_argument("--clips", type=int, default=256)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--no-lpips", action="store_true", help="for small pictures, or without its weights")
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    device, store = pick_device("auto"), Store.open(options.data)
    worlds = {name: wd.World.from_pretrained(name).to(device) for name in options.worlds}
    tokenizers = {world.tokenizer.fingerprint() for world in worlds.values()}
    if len(tokenizers) != 1:
        raise SystemExit("these worlds have different tokenizers: expected one, and what became of its dreams")
    tokenizer = next(iter(worlds.values())).tokenizer
    clips = dream_clips(tokenizer, store, options.clips, CONTEXT, HORIZON, least=HORIZON)
    clip, truth = clips.clip.to(device), clips.video[:, CONTEXT:].to(device).float() / 255
    behind = background(store).to(device)
    lpips = None if options.no_lpips else LPIPS.load("alex").to(device)
    measures = [key for key in UNITS if lpips or key != "lpips"]

    def measured(world: wd.World) -> ReconstructionMetrics:
        """All clips, once for each seed."""
        metrics = ReconstructionMetrics(lpips, behind)
        for seed in range(options.seeds):
            dreamed = roll_out(world.dynamics, clip, CONTEXT, seed=seed)
            for start in range(0, len(truth), ROWS):
                rows = slice(start, start + ROWS)
                metrics.update(pictures_of(tokenizer, clip.rows(rows), dreamed[rows]), truth[rows])
        return metrics

    def of_clips(metrics: ReconstructionMetrics) -> dict[str, np.ndarray]:
        """`measures` of each clip in which something moves."""
        row_of = torch.arange(options.seeds * len(truth)) % len(truth)
        each = [metrics.compute((row_of == row)[:, None].expand(-1, HORIZON)) for row in range(len(truth))]
        return {key: np.array([one[key] for one in each if "psnr_moving" in one]) for key in measures}

    found: dict[str, Any] = {}
    first: dict[str, np.ndarray] = {}
    for name, world in worlds.items():
        metrics = measured(world)
        own, whole, frames = of_clips(metrics), metrics.compute(), metrics.by_frame()["psnr_moving"]
        found[name] = {**{key: whole[key] for key in own}, **{f"psnr_moving_{n}": frames[n - 1] for n in SHOWN}}
        line = f"{name}: " + ", ".join(f"{key} {value:.4g}" for key, value in found[name].items())
        for key, before in first.items():
            changed = difference(own[key], before)
            found[name][f"{key}_difference"] = changed.to_json()
            line += f"; a clip {changed.value:+.2g} ({changed.low:+.2g} to {changed.high:+.2g}) {UNITS[key]}"
        first = first or own
        print(line, flush=True)
    if options.out is not None:
        write_json(options.out, {
            "data": options.data, "clips": len(own["psnr_moving"]), "seeds": options.seeds, "worlds": found,
            "device": device_name(device), "torch": torch.__version__, "date": datetime.date.today().isoformat()})


if __name__ == "__main__":
    main()
