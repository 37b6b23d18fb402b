"""Dreams beside what happened, as a picture; and whether a ball still flies in them.

    python benchmarks/dreams.py runs/pong --data data/pong --field 10 57 8 55 --out dreams/pong
    python benchmarks/dreams.py runs/cartpole --data data/cartpole --out dreams/cartpole

Leaves OUT.png, three held-out clips, truth above dream: the last frame of the context and every fifth after it. Where a
field is given (rows from and to, columns from and to, in which nothing but the ball moves) they are clips with a ball
in it throughout, and OUT.json tells: of the dreams whose true ball is in the field at that frame and has been since
the context, how many show one, how many show one that moved since the frame before, and how far from the true one;
of those without a true ball, how many show one.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from wakedream.data.background import MOVES, stills
from wakedream.data.store import Store
from wakedream.device import pick_device
from wakedream.evaluation.dynamics.horizons import CEILING, DREAM, predictions
from wakedream.evaluation.dynamics.pictures import spread
from wakedream.evaluation.dynamics.rollouts import roll_out
from wakedream.evaluation.dynamics.windows import dream_clips
from wakedream.evaluation.tokenizer.reconstruction import row_batches
from wakedream.world.model import World

CONTEXT, FRAMES, EVERY = 16, 30, 5
SHOWN = (1, 2, 4, 8, 16, 30)  # frames after the context
MOVED = 0.3  # pixels from one frame to the next: a ball that flies
SCALE = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="name without suffix")
    parser.add_argument("--field", type=int, nargs=4, help="rows from and to, columns from and to, of the ball alone")
    parser.add_argument("--clips", type=int, default=256)
    parser.add_argument("--sampling-steps", type=int, default=4)
    options = parser.parse_args()
    world = World.from_pretrained(options.run).to(pick_device("auto"))
    store = Store.open(options.data)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    clips = dream_clips(world.tokenizer, store, options.clips, CONTEXT, FRAMES, least=FRAMES)
    dreamed = roll_out(world.dynamics, clips.clip, CONTEXT, sampling_steps=options.sampling_steps, batch_size=64)
    mean, behind = stills(store)
    made: dict[str, list[Tensor]] = {DREAM: [], CEILING: [], "truth": []}
    for rows in row_batches(len(dreamed), clips.video.shape[1], world.tokenizer):
        found, truth = predictions(world.tokenizer, clips, dreamed, mean, rows)
        for name in made:
            made[name].append((truth if name == "truth" else found[name]).cpu())
    frames = {name: torch.cat(parts) for name, parts in made.items()}
    shown = clips, dreamed
    if options.field:
        table = balls(frames, behind.cpu(), options.field)
        options.out.with_suffix(".json").write_text(json.dumps(table, indent=1) + "\n")
        print(json.dumps(table))
        flies = located(frames["truth"], behind.cpu(), options.field)[1].all(1).nonzero()[:, 0]
        shown = clips.rows(flies), dreamed[flies.to(dreamed.device)]
    few, few_dreamed = spread(*shown)
    found, truth = predictions(world.tokenizer, few, few_dreamed, mean, slice(None))
    picture(few.video[:, CONTEXT - 1].float() / 255, truth.cpu(), found[DREAM].cpu(), options.out.with_suffix(".png"))


def balls(frames: dict[str, Tensor], behind: Tensor, field: list[int]) -> list[dict[str, Any]]:
    """A row for each number of frames after the context and each of dream and reconstruction."""
    there = {name: located(video, behind, field) for name, video in frames.items()}
    true_place, true_seen = there["truth"]
    since = true_seen.cumprod(1).bool()
    table = []
    for name in (DREAM, CEILING):
        place, seen = there[name]
        for shown in SHOWN:
            at, flies = shown - 1, since[:, shown - 1]
            step = (place[:, at] - place[:, max(at - 1, 0)]).norm(dim=-1)
            both, none = flies & seen[:, at], ~true_seen[:, at]
            still = both & (step > MOVED) & seen[:, max(at - 1, 0)]
            away = (place[:, at] - true_place[:, at]).norm(dim=-1)[both]
            table.append({"of": name, "frame": shown, "dreams": int(flies.sum()), "seen": _share(both, flies),
                          "moves": _share(still, flies) if at else None,
                          "pixels_away": round(float(away.median()), 2) if len(away) else None,
                          "without": int(none.sum()), "seen_without": _share(seen[:, at] & none, none)})
    return table


def located(video: Tensor, behind: Tensor, field: list[int]) -> tuple[Tensor, Tensor]:
    """Where (b t 2), in pixels, and whether (b t) the field differs from the background by what counts as moving."""
    top, bottom, left, right = field
    far = ((video - behind).abs() * 255).amax(2)[..., top:bottom, left:right]
    weight = torch.where(far > MOVES, far, 0)
    total = weight.sum((-1, -2))
    row, column = torch.arange(top, bottom).float(), torch.arange(left, right).float()
    place = torch.stack([weight.sum(-1) @ row, weight.sum(-2) @ column], dim=-1) / total.clamp_min(1)[..., None]
    return place, total > 0


def _share(some: Tensor, of: Tensor) -> float | None:
    return round(float(some.sum() / of.sum()), 3) if of.any() else None


def picture(last: Tensor, truth: Tensor, dream: Tensor, out: Path) -> None:
    """Rows of frames: truth, and below it the dream."""
    lines = [torch.cat([before[None], video[EVERY - 1 :: EVERY]])
             for row, before in enumerate(last) for video in (truth[row], dream[row])]
    rows = [torch.cat(list(line), dim=-1) for line in lines]
    image = (torch.cat(rows, dim=-2).clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    whole = Image.fromarray(image)
    whole.resize((whole.width * SCALE, whole.height * SCALE), Image.Resampling.NEAREST).save(out)


if __name__ == "__main__":
    main()
