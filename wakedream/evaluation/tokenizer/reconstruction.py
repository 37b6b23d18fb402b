"""A tokenizer's numbers on held-out episodes."""

import sys
import weakref
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from wakedream.data.background import stills
from wakedream.data.loader import evaluation_clips
from wakedream.data.store import Store
from wakedream.evaluation.metrics import ReconstructionMetrics
from wakedream.evaluation.tokenizer.latents import latent_influence, latent_statistics
from wakedream.notation import Latents
from wakedream.perceptual.lpips import LPIPS
from wakedream.progress import ProgressBar
from wakedream.tokenizer.fitting import check_frames
from wakedream.tokenizer.tokenizer import Tokenizer

RATIOS = (0.0, 0.25, 0.5, 0.75, 0.9)
DAYLIGHT, DAY = "daylight", 0.5  # by day: this per-frame extra is above that
PIXELS, CPU_PIXELS = 4_000_000, 300_000  # in one pass, about: bounds memory; a CPU is faster with few
INFLUENCE_CLIPS, INFLUENCE_FRAMES = 8, 4


@torch.no_grad()  # not inference_mode: its tensors would spoil a tokenizer that goes on training
def evaluate_tokenizer(
    tokenizer: Tokenizer,
    store: Store,
    *,
    clips: int = 32,
    length: int = 16,
    training_length: int | None = None,
    lpips: LPIPS | None = None,
    ratios: tuple[float, ...] = RATIOS,
    seed: int = 0,
) -> tuple[dict[str, Any], Tensor]:
    """Numbers as JSON values, and the influence map (k h w) of each latent.

    The tokenizer, in float32, is used where it is. `training_length`: frames beyond it get their own row.
    Every table has a row for the mean image of the training split, the least that a tokenizer must beat.
    """
    check_data(tokenizer, store)
    split = store.judging_split
    tokenizer.eval()
    clip = evaluation_clips(store, split, clips, length, seed)
    device = tokenizer.mask_token.device
    mean, behind = (image.to(device) for image in stills(store, seed))
    found = {ratio: ReconstructionMetrics(lpips, behind) for ratio in ratios}
    of_mean = ReconstructionMetrics(lpips, behind)
    generator = torch.Generator(device).manual_seed(seed)
    latents: list[Latents] = []
    with ProgressBar("evaluating", clip.video.shape[0] * length * (len(ratios) + 1), "frames") as bar:
        for part in row_batches(len(clip.video), length, tokenizer):
            frames = clip.video[part].to(device).float() / 255
            of_mean.update(mean.expand_as(frames), frames)
            bar.advance(frames.shape[0] * length)
            for ratio, metrics in found.items():
                mask = tokenizer.patch_mask(len(frames), length, ratio, generator) if ratio else None
                encoded = tokenizer.encode(frames, mask)
                metrics.update(tokenizer.pictures(encoded), frames)
                if not ratio:
                    latents.append(encoded)
                bar.advance(frames.shape[0] * length)
    rows = _shares(clip.video.shape[0], length, training_length, clip.extras.get(DAYLIGHT))
    within = next(iter(rows.values()))
    whole, every = found[0.0], torch.cat(latents)
    influence, maps = _influence(tokenizer, clip.video, every)
    return {
        "evaluated": {
            "split": split,
            "clips": clip.video.shape[0],
            "length": length,
            "seed": seed,
            "training_length": training_length,
        },
        "reconstruction": [
            {"of": of, "frames_of": name} | metrics.compute(where)
            for name, where in rows.items()
            for of, metrics in (("tokenizer", whole), ("mean image", of_mean))
        ],
        "by_mask_ratio": [
            {"of": "tokenizer", "ratio": ratio} | metrics.compute(within) for ratio, metrics in found.items()
        ]
        + [{"of": "mean image", "ratio": None} | of_mean.compute(within)],
        "by_frame": {"tokenizer": whole.by_frame(), "mean image": of_mean.by_frame()},
        "latents": latent_statistics(every) | {"influence": influence},
    }, maps


def _shares(clips: int, length: int, training_length: int | None, daylight: Tensor | None) -> dict[str, Tensor]:
    """Which frames each row of the table is about, bool (b t)."""
    index = torch.arange(length).expand(clips, length)
    within = index < (training_length or length)
    rows = {"all" if within.all() else "within the training length": within}
    by_day = within & (daylight > DAY) if daylight is not None else within  # without the extra NaN: not by day
    if not by_day.equal(within):  # else the row says nothing new
        rows["by day"] = by_day
    rows["first frame of a clip"] = index == 0
    if not within.all():
        rows["beyond the training length"] = ~within
    return rows


def _influence(tokenizer: Tokenizer, video: Tensor, latents: Latents) -> tuple[dict[str, Any], Tensor]:
    """On the first frames of some clips, so that all that they depend on is there."""
    b, t = video.shape[:2]
    t = min(t, INFLUENCE_FRAMES)
    chosen = torch.linspace(0, b - 1, min(b, INFLUENCE_CLIPS)).round().long()
    frames = video[chosen, :t].to(latents.device).float() / 255
    return latent_influence(tokenizer, frames, latents[chosen.to(latents.device), :t], latents.mean((0, 1)))


def row_batches(rows: int, frames: int, tokenizer: Tokenizer) -> Iterator[slice]:
    """Rows of clips of so many frames that are encoded or decoded at a time."""
    pixels = CPU_PIXELS if tokenizer.mask_token.device.type == "cpu" else PIXELS
    height, width = tokenizer.config.frame_size
    size = max(1, pixels // (frames * height * width))
    return (slice(start, start + size) for start in range(0, rows, size))


_told: weakref.WeakSet[Store] = weakref.WeakSet()


def judging_split(store: Store, says: bool = True) -> str:
    """`store.judging_split`; that it is none of held-out episodes is said on the console, once of a store."""
    if says and store.judging_split != "held_out" and store not in _told:
        _told.add(store)
        print(f"{store.path} has no held-out episodes: the model is judged by episodes that it was trained on, which "
              "says little of others. More episodes, or a larger --held-out when they are recorded or ingested, would",
              file=sys.stderr)
    return store.judging_split


def check_data(tokenizer: Tokenizer, store: Store) -> None:
    """ConfigError unless the frames are of the tokenizer's size. Where no episode is held out it is said on the console
    that models are judged by what they have learned from."""
    check_frames(store, tokenizer.config)
    judging_split(store)
