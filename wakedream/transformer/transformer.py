"""The block-causal transformer that tokenizer, dynamics and agent share (paper section 3.4)."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from wakedream.notation import FrameIds, Tokens
from wakedream.transformer.attention import (
    FEW,
    FLEX_FROM,
    FLEX_HEAD,
    LONG,
    SHORT,
    Spans,
    dense_block_mask,
    frame_mask,
    kernel_fits,
    kernel_ranges,
    range_mask,
    segment_ranges,
    token_mask,
)
from wakedream.transformer.cache import Arrival, Cache, LayerCache
from wakedream.transformer.config import TransformerConfig
from wakedream.transformer.layers import ALL, Layer, RMSNorm, Scope, initialise, summed
from wakedream.transformer.layout import TokenLayout
from wakedream.transformer.rope import rotary_angles


class Transformer(nn.Module):
    """Tokens (b t s d) to tokens (b t s d): nothing of a frame depends on a later frame.

    The layout is an argument: one set of weights may serve several layouts (the `seed` preset's
    tokenizer does), and tokenizer and dynamics use this one class.
    """

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.config = config
        layers = [Layer(config, kind) for kind in config.layers]
        for layer in layers:
            initialise(layer, config.depth)
        self.layers = nn.ModuleList(layers)
        self.norm = RMSNorm(config.dim)

    def forward(
        self,
        tokens: Tokens,
        layout: TokenLayout,
        *,
        segments: FrameIds | None = None,
        cache: Cache | None = None,
        committed: int | None = None,
        rows: Tensor | None = None,
        frame_ids: FrameIds | None = None,
        keep: Sequence[str] | None = None,
    ) -> Float[Tensor, "b t k d"]:
        """Normalised outputs for a whole clip or, with a cache, for the frames after those it has seen.

        segments: int64 (b t); time and dense layers join only frames of the same segment. A segment is a run of equal
        numbers: one that comes back later is another segment (with a cache: must not come back within the window).
        committed: how many of the frames, from the first on, the cache goes on by (default: all). A frame that is not
        committed may be looked at again and again, in its place among those before it (a sampler's passes).
        rows: bool (b), in which rows of the cache they are committed (default: all).
        frame_ids: with a cache, int64 (b t); by default those that follow.
        keep: the modalities whose outputs are wanted, in the layout's order; the last layer then leaves out most work
        for the others.
        """
        assert tokens.shape[2] == layout.num_tokens, (tokens.shape, layout)
        device = tokens.device.type
        if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
            tokens = tokens.to(torch.get_autocast_dtype(device))
        arrival = None if cache is None else cache.expect(tokens.shape[1], segments, frame_ids, committed, rows)
        scope = self._scope(tokens, layout, segments, arrival)
        rings, pending = {} if cache is None else cache.layers, None
        for index, layer in enumerate(self.layers):
            kept = ALL if keep is None or index + 1 < len(self.layers) else layout.kept(keep)
            tokens, pending = layer(tokens, scope, kept, rings.get(index), pending)
        if arrival is not None:
            arrival.commit()
        return self.norm(summed(tokens, pending))

    def init_cache(self, batch_size: int, layout: TokenLayout) -> Cache:
        """An empty cache for `batch_size` independent streams, in the weights' type and on their device."""
        config, weight = self.config, self.norm.weight
        shape = (batch_size, config.window, layout.num_tokens, config.kv_heads, config.head_dim)
        layers = {
            index: LayerCache(weight.new_zeros(shape), weight.new_zeros(shape))
            for index, kind in enumerate(config.layers)
            if kind != "space"
        }
        frame_ids = torch.full((batch_size, config.window), -1, dtype=torch.int64, device=weight.device)
        return Cache(layers, frame_ids, frame_ids.new_zeros(batch_size), torch.zeros_like(frame_ids))

    def _scope(
        self, tokens: Tokens, layout: TokenLayout, segments: FrameIds | None, arrival: Arrival | None
    ) -> Scope:
        batch, num_frames = tokens.shape[:2]
        config, device = self.config, tokens.device
        plain = arrival is None and segments is None
        frame_ids = arrival.frame_ids if arrival else torch.arange(num_frames, device=device).expand(batch, -1)
        cos, sin = rotary_angles(frame_ids, config.head_dim)
        scope = Scope(layout, frame_ids, cos, sin, causal=plain and num_frames <= config.window, arrival=arrival)
        spans = segment_ranges(segments, config.window) if segments is not None and arrival is None else None
        if kernel_fits(tokens, config.head_dim, config.soft_cap):
            scope.ranges = self._ranges(tokens, layout, spans, arrival)
            scope.ring = arrival is not None and num_frames <= FEW and not torch.is_grad_enabled()
        masked = "time" not in scope.ranges and not scope.ring
        if not scope.causal and (masked or "dense" in config.layers):
            scope.frames = self._frames(frame_ids, spans, arrival)
        if "dense" in config.layers:
            length = num_frames * layout.num_tokens
            if plain and tokens.is_cuda and length >= FLEX_FROM and config.head_dim >= FLEX_HEAD:
                scope.tokens = dense_block_mask(layout, num_frames, config.window, device)
            else:
                frames = scope.frames
                if frames is None:
                    frames = frame_mask(frame_ids[:1], frame_ids[:1], config.window)
                looks_at = arrival.cache.num_tokens if arrival is not None and arrival.alone else layout.num_tokens
                scope.tokens = token_mask(frames, layout, looks_at)
        return scope

    def _ranges(self, tokens: Tokens, layout: TokenLayout, spans: Spans | None,
                arrival: Arrival | None) -> dict[str, Spans]:
        """Which kinds of layers a kernel for ranges takes, and what each position then sees.

        `spans` are those of the segments, if there are any. Keys from a cache lie in no order, so no range says
        which of them are seen. The kernel for more than SHORT tokens has no backward pass.
        """
        most = SHORT if torch.is_grad_enabled() else LONG
        ranges = dict(kernel_ranges(layout, tokens.shape[1], self.config.window, tokens.device, most))
        if arrival is not None:
            ranges.pop("time", None)
        elif spans is not None and "time" in ranges:
            ranges["time"] = spans
        return ranges

    def _frames(self, frame_ids: FrameIds, spans: Spans | None, arrival: Arrival | None) -> Tensor:
        """Which frames see which, bool (b t k); one row for the batch when all rows are alike."""
        window = self.config.window
        if arrival is not None:
            key_ids, key_segments = arrival.seen()
            return frame_mask(frame_ids, key_ids, window, arrival.segments, key_segments)
        if spans is None:
            return frame_mask(frame_ids[:1], frame_ids[:1], window)
        return range_mask(*spans)
