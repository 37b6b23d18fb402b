"""Frames to latents and latents to frames, one at a time (paper section 3.1: "decoded one by one")."""

import torch
from torch import Tensor

from wakedream.notation import Frame, Latent
from wakedream.tokenizer.tokenizer import Tokenizer


class TokenizerStream:
    """`batch_size` independent streams; equal to the whole clip's encode and decode, at constant cost per frame."""

    def __init__(self, tokenizer: Tokenizer, batch_size: int = 1):
        self.tokenizer, self.batch_size = tokenizer, batch_size
        decoder = tokenizer.encoder if tokenizer.decoder is None else tokenizer.decoder
        self._encoder_cache = tokenizer.encoder.init_cache(batch_size, tokenizer.encoder_layout)
        self._decoder_cache = decoder.init_cache(batch_size, tokenizer.decoder_layout)

    @torch.no_grad()
    def encode(self, frame: Frame | Tensor) -> Latent:
        """The next frame (b c h w), uint8 or float in [0, 1], to its latents (b l e)."""
        self._check(frame, 4)
        frames = self.tokenizer._check(frame.unsqueeze(1))
        return self.tokenizer._encode(frames, None, self._encoder_cache).squeeze(1)

    @torch.no_grad()
    def decode(self, latent: Latent) -> Frame:
        """The next frame's latents (b l e) to the frame (b c h w) in [0, 1]."""
        self._check(latent, 3)
        return self.tokenizer._decode(latent.unsqueeze(1), self._decoder_cache).squeeze(1).clamp(0, 1)

    def reset(self, rows: Tensor | None = None) -> None:
        """Start anew: all streams, or those where `rows`, bool (b), is True."""
        for cache in (self._encoder_cache, self._decoder_cache):
            cache.reset(torch.ones_like(cache.next_ids, dtype=torch.bool) if rows is None else rows)

    def _check(self, value: Tensor, ndim: int) -> None:
        if value.ndim != ndim or value.shape[0] != self.batch_size:
            raise ValueError(
                f"this stream takes {self.batch_size} rows of one frame each ({ndim} axes), "
                f"got {tuple(value.shape)}"
            )
