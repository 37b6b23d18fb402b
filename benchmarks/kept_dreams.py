"""Are dreams what they were? One world's held-out dreams beside those that cloning, or more training, made of it.

    python benchmarks/kept_dreams.py runs/dynamics runs/agent [MORE] --data data/doorkey --out kept.json

All dream the same clips, 16 frames after 16, under the same actions with the same noise, `--seeds` times. Of each: the
PSNR on what moves, of the error pooled over all and of the frames 1, 4 and 16 after the context. Beside the first: the
mean of the clips' own differences in dB with its 95 % interval (bootstrap over clips). Clips of one episode resemble
each other: many episodes (`wakedream record ... --held-out 0.8 --seed 77`) tell more than many clips.
"""

import argparse
import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

import wakedream as wd
from wakedream.data.background import moving, stills
from wakedream.data.store import Store
from wakedream.device import pick_device
from wakedream.evaluation.agent.intervals import difference
from wakedream.evaluation.dynamics.rollouts import pictures_of, roll_out
from wakedream.evaluation.dynamics.windows import dream_clips
from wakedream.evaluation.metrics import psnr
from wakedream.runs import write_json

CONTEXT, HORIZON = 16, 16
SHOWN = (1, 4, HORIZON)
ROWS = 64  # clips decoded at a time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("worlds", nargs="+", help="run folders of dynamics models or agents; the first is the measure")
    parser.add_argument("--data", required=True)
    parser.add_argument("--clips", type=int, default=256)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    device, store = pick_device("auto"), Store.open(options.data)
    worlds = {name: wd.World.from_pretrained(name).to(device) for name in options.worlds}
    tokenizers = {world.tokenizer.fingerprint() for world in worlds.values()}
    if len(tokenizers) != 1:
        raise SystemExit("these worlds have different tokenizers: expected one, and what became of its dreams")
    tokenizer = next(iter(worlds.values())).tokenizer
    clips = dream_clips(tokenizer, store, options.clips, CONTEXT, HORIZON, least=HORIZON)
    clip, truth = clips.clip.to(device), clips.video[:, CONTEXT:].float() / 255
    where = moving(truth, stills(store)[1]).expand_as(truth)
    counts = where.sum((2, 3, 4)).double()
    kept = counts.sum(1) > 0  # clips in which something moves

    def errors(world: wd.World) -> torch.Tensor:
        """Squared errors on what moves, summed over pixels and seeds: (clips, frames)."""
        total = torch.zeros_like(counts)
        for seed in range(options.seeds):
            dreamed = roll_out(world.dynamics, clip, CONTEXT, seed=seed)
            for start in range(0, len(truth), ROWS):
                rows = slice(start, start + ROWS)
                made = pictures_of(tokenizer, clip.rows(rows), dreamed[rows]).float().cpu()
                total[rows] += ((made - truth[rows]).square() * where[rows]).sum((2, 3, 4)).double()
        return total / options.seeds

    found: dict[str, Any] = {}
    first: np.ndarray | None = None
    for name, world in worlds.items():
        error = errors(world)
        own = np.array([psnr(value) for value in (error.sum(1) / counts.sum(1))[kept]])
        found[name] = {"psnr_moving": psnr(error.sum() / counts.sum()),
                       **{f"psnr_moving_{n}": psnr(error[:, n - 1].sum() / counts[:, n - 1].sum()) for n in SHOWN}}
        line = f"{name}: " + ", ".join(f"{key} {value:.2f}" for key, value in found[name].items())
        if first is None:
            first = own
        else:
            changed = difference(own, first)
            found[name]["difference"] = changed.to_json()
            line += f"; a clip {changed.value:+.2f} ({changed.low:+.2f} to {changed.high:+.2f}) dB"
        print(line, flush=True)
    if options.out is not None:
        write_json(options.out, {
            "data": options.data, "clips": int(kept.sum()), "seeds": options.seeds, "worlds": found,
            "device": torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} CPU cores",
            "torch": torch.__version__, "date": datetime.date.today().isoformat()})


if __name__ == "__main__":
    main()
