"""What can be read linearly from a frame's latents: the numbers that belong to it (`extras`), by ridge regression.

What the picture shows but the latents do not hold, no dream and no agent can know. Fitted on training episodes, judged
on held-out ones; beside it the same from the pixels, which says whether a line could read it from the picture at all.
"""

from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from wakedream.data.loader import clips_at, evaluation_windows
from wakedream.data.store import Store
from wakedream.evaluation.baseline import READ, probe_verdict
from wakedream.evaluation.tokenizer.reconstruction import row_batches
from wakedream.notation import Frames
from wakedream.progress import ProgressBar
from wakedream.tokenizer.tokenizer import Tokenizer

LATENTS, PIXELS = "latents", "pixels"
SIDE = 64  # pixels are taken as grey, and averaged to at most so many a side
JUDGED, VALIDATED = 4, 5  # of the frames one in 4 judges; of the training episodes one in 5 chooses the penalty
PENALTIES = tuple(10.0**power for power in range(-6, 3))  # of weights, the features being of unit spread
UNVARIED = 1e-4  # spread below which a feature says nothing

Matrix = Float[Tensor, "n d"]


@dataclass
class Read:
    """n frames: what is read from (by name, n d each), what is to be read (n k), and whose frames they are (n)."""

    features: dict[str, Tensor]
    targets: Tensor
    episodes: Tensor


@torch.no_grad()
def probe(tokenizer: Tokenizer, store: Store, frames: int, length: int, seed: int = 0) -> dict[str, Any] | None:
    """A row for each extra, as JSON values, from about so many frames in clips of `length`: of those at which every
    extra is known. None without extras, and with fewer than two episodes to learn from or one to be judged by.

    std, constant       of the extra in the judged frames; whether it has one value there, or where the probe learned
    commonest           of whole numbers: how often the one is right that is commonest where the probe learned
    latents, pixels     what is read from each: r2, and of whole numbers how often rounding gives just that, `exact`
    """
    parts = _windows(store, frames, length, seed) if store.extras else [[], []]
    if not all(parts):
        return None
    learn, judge = (_read(tokenizer, store, windows, length) for windows in parts)
    validated = _every(VALIDATED, learn.episodes)
    if not len(judge.targets) or validated.all() or not validated.any():
        return None
    said = {of: ridge(these, learn.targets, validated, judge.features[of]) for of, these in learn.features.items()}
    columns = zip(store.extras, learn.targets.T, judge.targets.T, strict=True)
    rows = [{"extra": name} | _row(learned, truth, {of: every[:, i] for of, every in said.items()})
            for i, (name, learned, truth) in enumerate(columns)]
    return {"frames": len(judge.targets), "episodes": len(judge.episodes.unique()), "learned_from": len(learn.targets),
            "rows": rows, "verdict": probe_verdict(unread(rows))}


def unread(rows: list[dict[str, Any]]) -> list[str]:
    """The extras that a line reads from the pixels and not from the latents."""
    return [row["extra"] for row in rows if not row["constant"] and row[LATENTS]["r2"] < READ <= row[PIXELS]["r2"]]


def ridge(features: Matrix, targets: Float[Tensor, "n k"], validated: Bool[Tensor, " n"],
          asked: Float[Tensor, "m d"]) -> Float[Tensor, "m k"]:
    """What a line says of the features `asked`. Each target has the penalty that does best on the validated frames
    after a fit to the others; the line is then fitted to all."""
    mean, spread = features.double().mean(0), features.double().std(0)
    scale = torch.where(spread > UNVARIED, 1 / spread, 0)
    x, asked = ((these.double() - mean) * scale for these in (features, asked))
    targets = targets.double()
    some, whole = _Lines(x[~validated], targets[~validated]), _Lines(x, targets)
    errors = [(some(x[validated], penalty) - targets[validated]).square().mean(0) for penalty in PENALTIES]
    best = torch.stack(errors).argmin(0).tolist()
    said = {i: whole(asked, PENALTIES[i]) for i in set(best)}
    return torch.stack([said[i][:, k] for k, i in enumerate(best)], dim=1)


class _Lines:
    """y = w x + c with the least |y - w x - c|^2 / n + penalty |w|^2, for any penalty."""

    def __init__(self, x: Matrix, y: Float[Tensor, "n k"]):
        self.x, self.y = x.mean(0), y.mean(0)
        self.gram = (x - self.x).T @ (x - self.x) / len(x)
        self.cross = (x - self.x).T @ (y - self.y) / len(x)

    def __call__(self, x: Float[Tensor, "m d"], penalty: float) -> Float[Tensor, "m k"]:
        factor = torch.linalg.cholesky(self.gram + penalty * torch.eye(len(self.gram)).to(self.gram))
        return (x - self.x) @ torch.cholesky_solve(self.cross, factor) + self.y


def _row(learned: Tensor, truth: Tensor, said: dict[str, Tensor]) -> dict[str, Any]:
    """Of one extra; what is said of it, by what it was read from."""
    learned, truth = learned.double(), truth.double()
    constant = bool((learned == learned[0]).all() or (truth == truth[0]).all())
    whole = bool((learned == learned.round()).all() and (truth == truth.round()).all())
    found: dict[str, Any] = {"std": float(truth.std(correction=0)), "constant": constant,
                             "commonest": _share(truth == learned.mode().values) if whole else None}
    for of, values in {} if constant else said.items():
        r2 = 1 - float((values - truth).square().mean() / truth.var(correction=0))
        found[of] = {"r2": r2, "exact": _share(values.round() == truth) if whole else None}
    return found


def _share(these: Tensor) -> float:
    return float(these.double().mean())


def _windows(store: Store, frames: int, length: int, seed: int) -> list[list[tuple[int, int]]]:
    """(episode, first frame) of the clips to learn from, and of those to be judged by, of other episodes."""
    judging = frames // JUDGED

    def spread(split: str, most: int) -> list[tuple[int, int]]:
        return evaluation_windows(store, split, max(1, min(most, store.frames(split)) // length), length, seed)

    if store.judging_split == "held_out":
        return [spread("train", frames - judging), spread("held_out", judging)]
    learn = spread("train", frames)
    judged = _every(JUDGED, torch.tensor([episode for episode, _ in learn])).tolist()
    return [[window for window, its in zip(learn, judged, strict=True) if its == which] for which in (False, True)]


def _every(nth: int, episodes: Int[Tensor, " n"]) -> Bool[Tensor, " n"]:
    """Which are of the nth episode, the 2 nth and so on, of two or more at least of one."""
    index = episodes.unique(return_inverse=True)[1]
    return index % nth == min(nth - 1, int(index.max()) if len(index) else 0)


def _read(tokenizer: Tokenizer, store: Store, windows: list[tuple[int, int]], length: int) -> Read:
    device = tokenizer.mask_token.device
    latents, pixels, targets = list[Tensor](), list[Tensor](), list[Tensor]()
    with ProgressBar("probing", len(windows) * length, "frames") as bar:
        for part in row_batches(len(windows), length, tokenizer):
            clip = clips_at(store, windows[part], length)
            shown = clip.video.to(device).float() / 255
            latents.append(rearrange(tokenizer.encode(shown), "b t l e -> (b t) (l e)").float())
            pixels.append(_grey(shown))
            targets.append(torch.stack([clip.extras[name].flatten() for name in store.extras], dim=1))
            bar.advance(shown.shape[0] * length)
    known = ~torch.cat(targets).isnan().any(1)
    episodes = torch.tensor([episode for episode, _ in windows]).repeat_interleave(length)[known]
    where = known.to(device)
    return Read({LATENTS: torch.cat(latents)[where], PIXELS: torch.cat(pixels)[where]},
                torch.cat(targets)[known].to(device), episodes.to(device))


def _grey(frames: Frames) -> Matrix:
    grey = rearrange(frames.mean(2), "b t h w -> (b t) 1 h w")
    height, width = grey.shape[-2:]
    return functional.adaptive_avg_pool2d(grey, (min(height, SIDE), min(width, SIDE))).flatten(1)
