"""What more sampling steps buy."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from wakedream.evaluation.config import CHUNK
from wakedream.evaluation.dynamics.chunks import Reference
from wakedream.evaluation.dynamics.horizons import CEILING, DREAM, LAST, predictions
from wakedream.evaluation.dynamics.rollouts import RollOut
from wakedream.evaluation.dynamics.windows import DreamClips, without_context
from wakedream.evaluation.metrics import ReconstructionMetrics
from wakedream.evaluation.tokenizer.reconstruction import row_batches
from wakedream.notation import Frames, Latents
from wakedream.perceptual.lpips import LPIPS
from wakedream.tokenizer.tokenizer import Tokenizer

AT = (8, CHUNK)  # horizons
REAL = "real"


@torch.no_grad()
def sampling_table(tokenizer: Tokenizer, clips: DreamClips, roll: RollOut, steps: Sequence[int], reference: Reference,
                   lpips: LPIPS | None = None) -> list[dict[str, Any]]:
    """A row for each number of sampling steps, from the same noise; then for the tokenizer's reconstruction of what
    really followed, for the last context frame repeated, and for what really followed.

    The clips have exactly 16 frames after the context: one chunk each. of, sampling_steps, psnr_8, psnr_16, lpips_8,
    lpips_16, frechet (against the training split), motion. Of dreams also frechet_start: of as many chunks that begin
    from nothing, where one look can only guess the mean of all that may be.
    """
    truth, alone = clips.clip.latents[:, clips.context:], without_context(clips, CHUNK)
    rolled = ((DREAM, count, roll(clips.clip, clips.context, sampling_steps=count)) for count in steps)
    table = []
    for of, count, latents in (*rolled, (CEILING, None, truth), (LAST, None, truth)):
        metrics = ReconstructionMetrics(lpips)
        chunks = reference.measure(_watched(tokenizer, clips, latents, of, metrics))
        found = {f"{name}_{h}": values[i] for name, values in metrics.by_frame().items() if name != "ssim"
                 for i, h in enumerate(AT)}
        table.append({"of": of, "sampling_steps": count, **found, "frechet": reference.distance(chunks),
                      "motion": chunks.motion})
        if of == DREAM:
            started = reference.of_latents(tokenizer, roll(alone, 0, sampling_steps=count), 0, CHUNK)
            table[-1]["frechet_start"] = reference.distance(started)
    real = reference.of_video(clips.video[:, clips.context:])
    return [*table, {"of": REAL, "sampling_steps": None, "frechet": reference.distance(real), "motion": real.motion}]


def _watched(tokenizer: Tokenizer, clips: DreamClips, latents: Latents, of: str,
             metrics: ReconstructionMetrics) -> Iterator[Frames]:
    """The frames in parts, which are also held against the truth."""
    columns, unused = torch.tensor(AT) - 1, torch.zeros(3, 1, 1)
    for rows in row_batches(len(clips.real), clips.real.shape[1], tokenizer):
        made, truth = predictions(tokenizer, clips, latents, unused, rows)
        metrics.update(made[of][:, columns], truth[:, columns])
        yield made[of]
