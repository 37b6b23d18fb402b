"""Dreams that ran freely: do the fast ways dream as the slow twin does?

    python benchmarks/twins.py crafter-small data/crafter --clips 96 --out twins.json

The slow twin looks at all frames at once in every pass, in float32, without a cache. The fast ways are engines: commits
after the frame or with the next one, weights in float32 or bf16, on GPUs that have it products in fp8, layers compiled
(--compile). All go on from the same contexts under the same actions with the same noise. Of each: latents against the
twin's after 1 and after all frames, PSNR of its pictures against the twin's, Fréchet distances of its chunks of 16
frames to real ones and to the twin's. "another seed" is the twin with other noise: what chance alone makes of them.
Needs the LPIPS network.
"""

import argparse
import datetime
import json
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import wakedream as wd
from wakedream.bench.slow_twin import slow_frame
from wakedream.data.clip import Clip
from wakedream.data.loader import evaluation_clips
from wakedream.data.store import Store
from wakedream.data.trajectory import Trajectory
from wakedream.device import pick_device
from wakedream.dynamics.dynamics import Dynamics
from wakedream.dynamics.engine import AFTER, WITH_NEXT, DreamEngine
from wakedream.evaluation.dynamics.chunks import Reference
from wakedream.evaluation.frechet import FrechetFeatures, frechet_distance
from wakedream.evaluation.metrics import psnr
from wakedream.model.fp8 import has_fp8
from wakedream.runs import write_json

ROWS = 16  # clips at a time


def slowly(dynamics: Dynamics, latents: Tensor, trajectory: Trajectory, seeds: Tensor, context: int, k: int) -> Tensor:
    seen = latents[:, :context]
    while seen.shape[1] < latents.shape[1]:
        seen = torch.cat([seen, slow_frame(dynamics, seen, trajectory, seeds, k)], 1)
    return seen


def quickly(engine: DreamEngine, latents: Tensor, trajectory: Trajectory, seeds: Tensor, context: int) -> Tensor:
    engine.start(None, latents[:, :context], trajectory.frames(slice(0, context)), seeds)
    made = [latents[:, :context]]
    for t in range(context, latents.shape[1]):
        one = trajectory.frames(slice(t, t + 1))
        actions = {name: values[:, 0] for name, values in one.actions.items()}
        made.append(engine.step(actions, has_action=one.has_action[:, 0]).latents.float()[:, None].clone())
    return torch.cat(made, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("world")
    parser.add_argument("data", type=Path)
    parser.add_argument("--clips", type=int, default=96)
    parser.add_argument("--context", type=int, default=16)
    parser.add_argument("--frames", type=int, default=16, help="dreamed, a multiple of 16; all must fit the window")
    parser.add_argument("--sampling-steps", type=int, default=4)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    device = pick_device(options.device)
    world, store = wd.World.from_pretrained(options.world).to(device), Store.open(options.data)
    context: int = options.context
    length = context + options.frames
    if length > world.dynamics.config.window:
        parser.error(f"{length} frames: expected at most the window, {world.dynamics.config.window}")
    rows = ROWS if device.type == "cpu" else options.clips
    clip: Clip = evaluation_clips(store, "held_out", options.clips // rows * rows, length)
    network = FrechetFeatures.load(device=device)
    reference = Reference(store, len(clip.video), network)
    ways: dict[str, dict[str, Any]] = {
        f"{commit}, {precision}{', compiled' * layers}": {"commit": commit, "precision": precision, "compile": layers}
        for commit in (AFTER, WITH_NEXT) for precision in ("float32", "bf16") + ("fp8",) * has_fp8(device)
        for layers in ([False, True] if options.compile else [False])}
    engines = {name: DreamEngine(world.dynamics, rows, sampling_steps=options.sampling_steps, **way)
               for name, way in ways.items()}
    names = ("the slow twin", *engines, "another seed")
    dreams: dict[str, list[Tensor]] = {name: [] for name in names}
    spent = dict.fromkeys(names, 0.0)
    with torch.no_grad():
        for start in range(0, len(clip.video), rows):
            part = slice(start, start + rows)
            latents = world.tokenizer.encode(clip.video[part].to(device)).float()
            trajectory = clip.trajectory.rows(part).to(device)
            seeds = torch.arange(start, start + rows, device=device)
            for name in names:
                began = time.perf_counter()
                if name in engines:
                    made = quickly(engines[name], latents, trajectory, seeds, context)
                else:
                    given = seeds + 10**6 * (name == "another seed")
                    made = slowly(world.dynamics, latents, trajectory, given, context, options.sampling_steps)
                dreams[name].append(made.cpu())
                spent[name] += time.perf_counter() - began
            print(f"{part.stop} of {len(clip.video)} clips", flush=True)
        whole = {name: torch.cat(parts) for name, parts in dreams.items()}
        pictures = {name: world.tokenizer.decode(made.to(device)).cpu()[:, context:] for name, made in whole.items()}
        chunks = {name: reference.measure(shown.split(ROWS)).features for name, shown in pictures.items()}
        real = reference.of_video(clip.video[:, context:]).features
    twin, found = whole["the slow twin"], []
    held, own = reference.chunks.features, chunks["the slow twin"]
    assert held is not None and own is not None
    print("\n| | latents off, first frame | last frame | PSNR to the twin's, dB | FD to real | FD to the twin's | s |")
    print("|---|---|---|---|---|---|---|")
    for name, features in {**chunks, "real": real}.items():
        assert features is not None
        row: dict[str, Any] = {"way": name, "fd_real": frechet_distance(features, held),
                               "fd_twin": frechet_distance(features, own)}
        if name != "real":
            off = (whole[name] - twin).abs().amax((0, 2, 3))
            row |= {"first": float(off[context]), "last": float(off[-1]), "seconds": spent[name],
                    "psnr": psnr((pictures[name] - pictures["the slow twin"]).square().mean())}
        found.append(row)
        first, last, decibels = (f"{row[key]:.3g}" if key in row else "" for key in ("first", "last", "psnr"))
        print(f"| {name} | {first} | {last} | {decibels} | {row['fd_real']:.3f} | {row['fd_twin']:.3f} | "
              f"{row.get('seconds', 0):.0f} |")
    if options.out:
        write_json(options.out, {"settings": {name: str(value) for name, value in vars(options).items()},
                                 "device": str(device), "date": f"{datetime.date.today()}",
                                 "torch": torch.__version__, "clips": len(clip.video), "rows": found})
        print(json.dumps({"out": str(options.out)}))


if __name__ == "__main__":
    main()
