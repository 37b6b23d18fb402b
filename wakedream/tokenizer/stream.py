"""Frames to latents and latents to frames, one at a time (paper section 3.1: "decoded one by one")."""

import torch
from torch import Tensor

from wakedream.notation import Frame, Latent
from wakedream.tokenizer.tokenizer import Tokenizer
from wakedream.transformer.frozen import FrameByFrame


class TokenizerStream:
    """`batch_size` independent streams, equal to the whole clip's encode and decode at constant cost per frame.

        stream = tokenizer.stream(batch_size=2)
        latent = stream.encode(frame)              # (2 c h w), uint8 or float in [0, 1], to (2 l e)
        picture = stream.decode(latent)            # (2 l e) to (2 c h w) in [0, 1]
        stream.reset(torch.tensor([True, False]))  # the first row starts a new video, the second goes on

    Time and dense layers keep the keys and values of the last `window` frames in a ring; frame numbers grow without
    bound, so a stream may run for ever. Encoder and decoder have each their own ring: either may be used alone.

    The stream keeps a copy of the tokenizer's weights as they are now.

    precision   of that copy: "bf16" (on a GPU by default; the last layer, tanh and all that comes out stay float32)
                or "float32"; by default on a CPU the tokenizer's own. Autocast has no effect.
    graph       encode and decode are one CUDA graph each, recorded at their first call (default: on a GPU)
    compile     layers are compiled first, which takes a minute and pays for long runs
    """

    @torch.inference_mode(False)  # a ring of inference tensors could not be changed outside of that mode
    def __init__(
        self,
        tokenizer: Tokenizer,
        batch_size: int = 1,
        *,
        precision: str | None = None,
        graph: bool | None = None,
        compile: bool = False,
    ):
        self.device = tokenizer.mask_token.device
        self.batch_size = batch_size
        self._mode = FrameByFrame("tokenizer", "streams", self.device, batch_size, precision, graph, compile)
        self.tokenizer = model = self._mode.frozen(tokenizer, "to_patch.weight")
        decoder = model.encoder if model.decoder is None else model.decoder
        self._encoder_cache = model.encoder.init_cache(batch_size, model.encoder_layout)
        self._decoder_cache = decoder.init_cache(batch_size, model.decoder_layout)
        self._encode = self._mode.recorded(self._encode_next, self._encoder_cache)
        self._decode = self._mode.recorded(self._decode_next, self._decoder_cache)

    def encode(self, frame: Frame | Tensor) -> Latent:
        """The next frame (b c h w), uint8 or float in [0, 1], to its latents (b l e)."""
        config = self.tokenizer.config
        self._check(frame, "frames", (config.channels, *config.frame_size))
        if frame.dtype != torch.uint8 and not frame.is_floating_point():
            raise ValueError(f"expected frames as uint8 or as floats in [0, 1], got {frame.dtype}")
        frame = frame.to(self.device)
        return self._mode.run(self._encode, frame.float() / 255 if frame.dtype == torch.uint8 else frame.float())

    def decode(self, latent: Latent) -> Frame:
        """The next frame's latents (b l e) to the frame (b c h w) in [0, 1]."""
        self._check(latent, "latents", (self.tokenizer.config.num_latents, self.tokenizer.config.latent_dim))
        return self._mode.run(self._decode, latent.to(self.device, torch.float32))

    def reset(self, rows: Tensor | None = None) -> None:
        """Start anew: all streams, or those where `rows`, bool (b), is True."""
        self._mode.reset(rows, self._encoder_cache, self._decoder_cache)

    def _encode_next(self, frame: Tensor) -> Tensor:
        return self.tokenizer._encode(frame.unsqueeze(1), None, self._encoder_cache).squeeze(1)

    def _decode_next(self, latent: Tensor) -> Tensor:
        return self.tokenizer._decode(latent.unsqueeze(1), self._decoder_cache).squeeze(1).clamp(0, 1)

    def _check(self, value: Tensor, what: str, shape: tuple[int, ...]) -> None:
        if value.shape != (self.batch_size, *shape):
            raise ValueError(
                f"this stream takes {self.batch_size} rows, one frame each: expected {what} "
                f"{(self.batch_size, *shape)}, got {tuple(value.shape)}"
            )

