"""Floating-point operations that a model cannot do without, counted from its shapes.

Counted, a multiplication and an addition as two: the products with weights, and for attention the products of
each query with the keys that it may see and with their values; in the last layer only for the tokens whose
outputs are used. The backward pass costs twice the forward pass, but nothing is propagated to pixels or latents. For
LPIPS, the convolutions on both pictures, and their gradient to the prediction. Not counted: norms, softmax, optimizer,
the embedding of actions, levels and steps, which is looked up, and whatever an implementation computes twice or for
hidden pairs. So shares of the matrix rate are never flattered.
"""

import math
from dataclasses import dataclass

from torch import nn

from wakedream.dynamics.dynamics import SPATIAL, Dynamics
from wakedream.perceptual.trunks import Trunk
from wakedream.tokenizer.tokenizer import Tokenizer
from wakedream.transformer.config import TransformerConfig
from wakedream.transformer.layout import TokenLayout


@dataclass(frozen=True)
class TokenizerFlops:
    """Of one clip, forward: embedding the patches, the rest of the encoder, the decoder."""

    embed: float
    encode: float
    decode: float

    @property
    def forward(self) -> float:
        return self.embed + self.encode + self.decode

    @property
    def training(self) -> float:
        return 3 * self.forward - self.embed


def tokenizer_flops(tokenizer: Tokenizer, frames: int, past: int = 0) -> TokenizerFlops:
    """A clip of `frames` frames, or the next ones of a stream that has seen `past` frames."""
    config = tokenizer.config
    pixels = 2.0 * frames * config.num_patches * config.patch_size**2 * config.channels * config.dim
    bottleneck = 2.0 * frames * config.num_latents * config.latent_dim * config.dim
    encoder = transformer_flops(config.encoder, tokenizer.encoder_layout, "latent", frames, past)
    decoder = transformer_flops(config.decoder, tokenizer.decoder_layout, "patch", frames, past)
    return TokenizerFlops(pixels, encoder + bottleneck, decoder + bottleneck + pixels)


@dataclass(frozen=True)
class DynamicsFlops:
    """Of one look at the frames of one row, forward: embedding the latents, all the rest; and of a look for the cache's
    sake alone, which nobody reads: a commit."""

    embed: float
    rest: float
    commit: float

    @property
    def look(self) -> float:
        return self.embed + self.rest

    @property
    def training(self) -> float:
        return 3 * self.look - self.embed


def dynamics_flops(dynamics: Dynamics, frames: int, past: int = 0) -> DynamicsFlops:
    """A clip of `frames` frames, or the next ones of a dream that has seen `past` frames."""
    config, layout = dynamics.config, dynamics.layout
    latents = 2.0 * frames * config.num_latents * config.latent_dim * config.dim
    look = transformer_flops(config.transformer, layout, SPATIAL, frames, past)
    return DynamicsFlops(latents, look + latents,
                         latents + transformer_flops(config.transformer, layout, None, frames, past))


def frame_flops(dynamics: Dynamics, sampling_steps: int) -> float:
    """Of one more frame of a dream whose window is full: K looks, and the commit."""
    counted = dynamics_flops(dynamics, 1, past=dynamics.config.window)
    return sampling_steps * counted.look + counted.commit


def transformer_flops(config: TransformerConfig, layout: TokenLayout, keep: str | None, frames: int,
                      past: int) -> float:
    """keep: the tokens whose outputs are used; None: no token's, but keys and values are."""
    shared, inner = config.kv_heads * config.head_dim, config.heads * config.head_dim
    frame_pairs = sum(min(past + t + 1, config.window) for t in range(frames))
    total = 0.0
    for index, kind in enumerate(config.layers):
        every = layout.num_tokens
        span = slice(0, every) if index < config.depth - 1 else slice(0, 0) if keep is None else layout.spans[keep]
        used, seen = _size(span), _pairs(layout, span)
        pairs = {"space": frames * seen, "time": used * frame_pairs, "dense": seen * frame_pairs}[kind]
        weights = used * (2 * inner + 3 * config.mlp_dim) + every * 2 * shared
        total += 2.0 * frames * config.dim * weights + 4.0 * pairs * inner
    return total


def ring_numbers(config: TransformerConfig, layout: TokenLayout) -> int:
    """Cached keys and values of one stream or dream, all of which a frame looks at."""
    layers = sum(kind != "space" for kind in config.layers)
    return layers * 2 * config.window * layout.num_tokens * config.kv_heads * config.head_dim


def weight_numbers(*modules: nn.Module) -> int:
    return sum(weight.numel() for module in modules for weight in module.parameters())


def lpips_flops(trunk: Trunk, height: int, width: int) -> float:
    """Of one pair of pictures, gradient to the prediction included."""
    size, channels, total = (height, width), 3, 0.0
    for index, (out, kernel, stride, padding) in enumerate(trunk.convs):
        if index in trunk.pooled_before:
            size = (size[0] - trunk.pool) // 2 + 1, (size[1] - trunk.pool) // 2 + 1
        size = tuple((side + 2 * padding - kernel) // stride + 1 for side in size)  # type: ignore[assignment]
        total += 2.0 * math.prod(size) * out * channels * kernel**2
        channels = out
    return 3 * total


def _pairs(layout: TokenLayout, rows: slice) -> int:
    """(query, key) pairs inside a frame of the queries in `rows`."""
    return int(layout.mask()[rows].sum())


def _size(span: slice) -> int:
    return span.stop - span.start
