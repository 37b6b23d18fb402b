"""How long a dream stays near what really happened, beside what the tokenizer could do and what anyone can guess."""

from typing import Any

import torch
from torch import Tensor

from wakedream.evaluation.dynamics.rollouts import decoded_from, pictures_of
from wakedream.evaluation.dynamics.windows import DreamClips
from wakedream.evaluation.metrics import ReconstructionMetrics
from wakedream.evaluation.tokenizer.reconstruction import row_batches
from wakedream.notation import Frames, Latents
from wakedream.perceptual.lpips import LPIPS
from wakedream.tokenizer.tokenizer import Tokenizer

HORIZONS = (1, 2, 4, 8, 16, 32, 64)  # 1: the first frame after the context
DREAM, CEILING, LAST, MEAN = "dream", "tokenizer", "last context frame", "mean image"


@torch.no_grad()
def horizon_table(tokenizer: Tokenizer, clips: DreamClips, dreamed: Latents, mean_image: Tensor,
                  lpips: LPIPS | None = None, behind: Tensor | None = None) -> list[dict[str, Any]]:
    """A row for each horizon that a clip reaches and each of

    dream               dreamed latents (b t-context l e), decoded
    tokenizer           the true frames, encoded and decoded: the ceiling
    last context frame  repeated
    mean image          (c h w), of the training split; behind: its background, if what moves is asked for

    horizon, of, frames (clips that reach it), psnr (of the error pooled over them), psnr_mean (of each clip's own),
    ssim, lpips; psnr_moving where something moves.
    """
    horizons = [h for h in HORIZONS if h <= clips.horizon]
    at = torch.tensor(horizons) - 1
    behind = None if behind is None else behind.to(tokenizer.mask_token.device)
    found = {of: ReconstructionMetrics(lpips, behind) for of in (DREAM, CEILING, LAST, MEAN)}
    rows, length = clips.real.shape
    for part in row_batches(rows, length, tokenizer):
        made, truth = predictions(tokenizer, clips, dreamed, mean_image, part)
        for of, frames in made.items():
            found[of].update(frames[:, at], truth[:, at])
    real = clips.real[:, clips.context + at]
    table = []
    for column, horizon in enumerate(horizons):
        where = torch.zeros_like(real)
        where[:, column] = real[:, column]
        table += [{"horizon": horizon, "of": of, **metrics.compute(where), "psnr_mean": metrics.mean_psnr(where)}
                  for of, metrics in found.items()]
    return table


def predictions(tokenizer: Tokenizer, clips: DreamClips, dreamed: Tensor, mean_image: Tensor,
                rows: slice) -> tuple[dict[str, Frames], Frames]:
    """By name, what each says that follows the context, and what did: (b t c h w) in [0, 1]. dreamed: of all rows."""
    clip, device = clips.clip.rows(rows), tokenizer.mask_token.device
    video = clips.video[rows].to(device).float() / 255
    truth = video[:, clips.context:]
    return {
        DREAM: pictures_of(tokenizer, clip, dreamed[rows]),
        CEILING: decoded_from(tokenizer, clip.latents, clips.context),
        LAST: video[:, clips.context - 1:clips.context].expand_as(truth),
        MEAN: mean_image.to(device).expand_as(truth),
    }, truth
