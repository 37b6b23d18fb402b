"""What the latents hold: their spread, and how much of the picture hangs on each of them."""

from typing import Any

import torch
from torch import Tensor

from wakedream.evaluation.metrics import psnr
from wakedream.notation import Frames, Latents
from wakedream.tokenizer.tokenizer import Tokenizer

SATURATED = 0.99  # |z| beyond which tanh has no gradient to speak of
DEAD = 0.01  # standard deviation below which a channel says nothing
MOST = 64  # latents whose influence is measured: all, or so many spread evenly
CHANGED = 1 / 255


def latent_statistics(latents: Latents) -> dict[str, Any]:
    """Spread of latents (b t l e): over all, per latent token; the share of saturated channels; and the dead ones, each
    as (latent, channel)."""
    flat = latents.float().flatten(0, 1)
    std = flat.std(0)
    return {
        "std": float(flat.std()),
        "std_by_latent": flat.std(0).square().mean(-1).sqrt().tolist(),
        "saturated": float((flat.abs() > SATURATED).float().mean()),
        "dead_channels": int((std < DEAD).sum()),
        "dead": (std < DEAD).nonzero().tolist(),
        "channels": std.numel(),
    }


@torch.no_grad()
def latent_influence(
    tokenizer: Tokenizer, frames: Frames, latents: Latents, mean: Tensor
) -> tuple[dict[str, Any], Tensor]:
    """Replace one latent token at a time in all frames, by its mean (l e) and by zero, and decode.

    frames (b t c h w) in [0, 1], their latents (b t l e). Returns numbers by latent (PSNR lost in dB; share
    of pixels that change by more than 1/255 on average) and maps (k h w) of the mean change of each pixel.
    """
    whole = tokenizer.pictures(latents)
    before = psnr((whole - frames).square().mean())
    count = latents.shape[2]
    chosen = torch.linspace(0, count - 1, min(count, MOST)).round().int().tolist()
    maps, drops, zero_drops = [], [], []
    for index in chosen:
        by_mean, by_zero = (_decoded_with(tokenizer, latents, index, value) for value in (mean[index], 0.0))
        maps.append((by_mean - whole).abs().mean((0, 1, 2)).cpu())
        drops.append(before - psnr((by_mean - frames).square().mean()))
        zero_drops.append(before - psnr((by_zero - frames).square().mean()))
    changes = torch.stack(maps)
    return {
        "latent": chosen,
        "psnr_drop": drops,
        "psnr_drop_zeroed": zero_drops,
        "changed_pixels": (changes > CHANGED).float().mean((1, 2)).tolist(),
    }, changes


def _decoded_with(tokenizer: Tokenizer, latents: Latents, index: int, value: Tensor | float) -> Frames:
    changed = latents.clone()
    changed[:, :, index] = value
    return tokenizer.pictures(changed)
