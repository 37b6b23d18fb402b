"""Frames to latents and latents to frames, one at a time (paper section 3.1: "decoded one by one")."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from wakedream.model.given import Given, check_frames, frames_of, latents_of
from wakedream.model.pretrained import Pretrained
from wakedream.model.stepwise import FrameByFrame, Guest, check_state, computed, filled, forked
from wakedream.notation import Frame, Latent
from wakedream.transformer.cache import Cache, CacheState


class TokenizerStream(Guest):
    """`batch_size` independent streams, equal to the whole clip's encode and decode at constant cost per frame.

        stream = tokenizer.stream(batch_size=2)
        latent = stream.encode(frame)              # (2 c h w), uint8 or float in [0, 1], to (2 l e)
        picture = stream.decode(latent)            # (2 l e) to (2 c h w) in [0, 1]
        stream.reset([True, False])                # the first row starts a new video, the second goes on

    Time and dense layers keep the keys and values of the last `window` frames in a ring; frame numbers grow without
    bound, so a stream may run for ever. Encoder and decoder have each their own ring: either may be used alone.

    The stream goes on with the tokenizer's weights as they are now. Streams of one tokenizer share one frozen copy of
    them, and with the same options what is recorded of it.

    precision   of that copy: "bf16" (on a GPU by default; the last layer, tanh and all that comes out stay float32)
                or "float32"; by default on a CPU the tokenizer's own; "fp8" on GPUs that have it: the products of
                layers, all else as in "bf16". Autocast has no effect.
    graph       encode and decode are one CUDA graph each, recorded at their first call (default: on a GPU)
    compile     layers are compiled first, which takes a minute and pays for long runs
    """

    @torch.inference_mode(False)  # a ring of inference tensors could not be changed outside of that mode
    def __init__(self, tokenizer: Pretrained, batch_size: int = 1, *, precision: str | None = None,
                 graph: bool | None = None, compile: bool = False):
        self.device = next(tokenizer.parameters()).device
        self.batch_size = batch_size
        self._mode = mode = FrameByFrame("tokenizer", "streams", self.device, batch_size, precision, graph, compile)
        shared = mode.shared(tokenizer, tokenizer.OUTPUT)
        self.tokenizer: Any = shared.model
        self._share(shared, *self._rings_of(shared))
        self._all = torch.ones(batch_size, dtype=torch.bool, device=self.device)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.batch_size} rows, on {self.device})"

    def encode(self, frame: Given) -> Latent:
        """The next frame (b c h w), uint8 or float in [0, 1], to its latents (b l e)."""
        config = self.tokenizer.config
        frame = frames_of(frame)
        self._check(frame, "frames", (config.channels, *config.frame_size))
        check_frames(frame)
        frame = frame.to(self.device)
        return self._mode.run(self._seat.encode, frame.float() / 255 if frame.dtype == torch.uint8 else frame.float())

    def decode(self, latent: Given) -> Frame:
        """The next frame's latents (b l e) in [-1, 1] to the frame (b c h w) in [0, 1]."""
        latent = latents_of(latent)
        self._check(latent, "latents", (self.tokenizer.config.num_latents, self.tokenizer.config.latent_dim))
        return self.picture(latent)

    def picture(self, latent: Latent, active: Bool[Tensor, " b"] | None = None) -> Frame:
        """As `decode`, of latents that a model just made: they are not looked at. active: the rows that go on; the
        others stay where they are, and what is returned for them means nothing."""
        active = self._all if active is None else active.to(self.device)
        return self._mode.run(self._seat.decode, latent.to(self.device, torch.float32), active)

    def reset(self, rows: Given | None = None) -> None:
        """Start anew: all streams, or those where `rows`, bool (b), is True."""
        self._seat.reset(self._mode.rows_given(rows))

    def state(self, rows: Int[Tensor, " n"] | None = None) -> "StreamState":
        """Where all streams stand, or these by number, to go on from there later: `load`."""
        return self._seat.state(rows)

    def load(self, state: "StreamState", rows: Int[Tensor, " n"] | None = None) -> None:
        """All rows, or these by number, go on as when `state` was taken, from a stream of this tokenizer with as many
        rows; or with one row, from which all of them then go on."""
        check_state(state, StreamState, self)
        count = self.batch_size if rows is None else len(rows)
        if (given := len(state.encoder.position[0])) not in (1, count):
            raise ValueError(f"the state has {given} rows: expected 1 or {count}")
        self._seat.load(state, rows)

    def fork(self, rows: int | None = None) -> Self:
        """A stream of its own that goes on from where this one stands. rows: so many from one (default: as many)."""
        made = copy.copy(self)
        made._aside, made.batch_size = None, forked(self.batch_size, rows)
        made._mode = replace(self._mode, batch_size=made.batch_size)
        made._share(self._copy, *made._rings_of(self._copy))
        made._all = torch.ones(made.batch_size, dtype=torch.bool, device=self.device)
        made.load(self.state())
        return made

    def _rings_of(self, shared: Any) -> tuple[tuple, Callable[[], "_Rings"]]:
        """Under which key rings are kept with the frozen copy, and what makes them."""
        mode = self._mode
        return ("stream", mode.batch_size, mode.graph), lambda: _Rings(shared.model, mode)

    def _check(self, value: Tensor, what: str, shape: tuple[int, ...]) -> None:
        if value.shape != (self.batch_size, *shape):
            raise ValueError(
                f"this stream takes {self.batch_size} rows, one frame each: expected {what} "
                f"{(self.batch_size, *shape)}, got {tuple(value.shape)}"
            )


@dataclass(frozen=True)
class StreamState:
    """The rings of encoder and decoder."""

    encoder: CacheState
    decoder: CacheState


class _Rings:
    """What is kept for a frozen tokenizer: both rings, and encode and decode as they are recorded."""

    encode: Callable[[Tensor], Tensor]
    decode: Callable[[Tensor], Tensor]

    def __init__(self, model: Any, mode: FrameByFrame):
        self.model, decoder = model, model.encoder if model.decoder is None else model.decoder
        self.encoding: Cache = model.encoder.init_cache(mode.batch_size, model.encoder_layout)
        self.decoding: Cache = decoder.init_cache(mode.batch_size, model.decoder_layout)
        self.encode = mode.recorded(self._encode, self.encoding.position)
        self.decode = mode.recorded(self._decode, self.decoding.position)

    def reset(self, rows: Tensor | None = None) -> None:
        self.encoding.reset(rows)
        self.decoding.reset(rows)

    def state(self, rows: Tensor | None = None) -> StreamState:
        return StreamState(self.encoding.state(rows), self.decoding.state(rows))

    def load(self, state: StreamState, rows: Tensor | None = None) -> None:
        self.encoding.load(state.encoder, rows)
        self.decoding.load(state.decoder, rows)

    def _encode(self, frame: Tensor) -> Tensor:
        return self.model._encode(frame.unsqueeze(1), None, self.encoding).squeeze(1)

    def _decode(self, latent: Tensor, active: Tensor) -> Tensor:
        count = computed(active)
        cache = self.decoding if count == len(active) else self.decoding.first(count)
        made = self.model._decode(latent[:count].unsqueeze(1), cache, active[:count]).squeeze(1).clamp(0, 1)
        return filled(made, len(active))
