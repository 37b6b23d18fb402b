"""Chunks of 16 frames and their features: dreamed ones, and real ones to hold beside them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from wakedream.data.loader import evaluation_clips
from wakedream.data.store import Store
from wakedream.evaluation.config import CHUNK
from wakedream.evaluation.dynamics.rollouts import decoded_from
from wakedream.evaluation.frechet import frechet_distance, motion
from wakedream.evaluation.tokenizer.reconstruction import row_batches
from wakedream.notation import Frames, Latents, Video
from wakedream.tokenizer.tokenizer import Tokenizer

ROWS = 16  # of real video at a time
Features = Callable[[Frames], Tensor]  # a FrechetFeatures


@dataclass
class Chunks:
    """features (n d), a row per chunk; None without the network. motion: mean change from frame to frame."""

    features: Tensor | None
    motion: float


class Reference:
    """`count` chunks of the training split, spread evenly: what all others, real ones too, are measured against."""

    def __init__(self, store: Store, count: int, features: Features | None, seed: int = 0):
        self.network = features
        split = "train" if any(info.frames >= CHUNK for info in store.split("train")) else "held_out"
        self.chunks = self.of_video(evaluation_clips(store, split, count, CHUNK, seed).video)

    def measure(self, parts: Iterable[Frames]) -> Chunks:
        """Of videos (b t c h w) in [0, 1], t a multiple of 16, that come in parts."""
        features, moved, rows = [], 0.0, 0
        for frames in parts:
            moved, rows = moved + motion(frames) * len(frames), rows + len(frames)
            if self.network:
                features.append(self.network(frames))
        return Chunks(torch.cat(features) if features else None, moved / rows)

    def of_video(self, video: Video) -> Chunks:
        """Real ones, uint8 (b t c h w)."""
        return self.measure(part.float() / 255 for part in video.split(ROWS))

    def of_latents(self, tokenizer: Tokenizer, latents: Latents, start: int, frames: int) -> Chunks:
        """`frames` frames from `start` on, of latents (b t l e), decoded with those before them."""
        return self.measure(decoded_from(tokenizer, latents[rows, :start + frames], start)
                            for rows in row_batches(len(latents), frames, tokenizer))

    def distance(self, chunks: Chunks, most: int | None = None) -> float | None:
        """Fréchet distance of equal numbers of chunks, `most` at most; None without the network, or of fewer than 2."""
        mine, other = self.chunks.features, chunks.features
        if mine is None or other is None or (count := min(len(mine), len(other), most or len(mine))) < 2:
            return None
        return frechet_distance(_spread(other, count), _spread(mine, count))


def _spread(rows: Tensor, count: int) -> Tensor:
    return rows[torch.linspace(0, len(rows) - 1, count).round().long()]
