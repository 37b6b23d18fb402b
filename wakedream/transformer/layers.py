"""The parts of a layer: norm, SwiGLU, attention over space, time or both."""

import math
from dataclasses import dataclass, field

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention.flex_attention import BlockMask

from wakedream.model.fp8 import Fp8Product
from wakedream.notation import FrameIds, Tokens
from wakedream.transformer.attention import SHORT, Spans, attend, attend_long
from wakedream.transformer.cache import Arrival, LayerCache
from wakedream.transformer.config import LayerKind, TransformerConfig
from wakedream.transformer.layout import TokenLayout
from wakedream.transformer.rope import rotate

Kept = tuple[slice, ...]  # spans of a frame's tokens
ALL: Kept = (slice(None),)


class RMSNorm(nn.Module):
    """x / rms(x) * weight; the weight is cast to x's type, else bf16 misses the fused kernel."""

    def __init__(self, dim: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, x.shape[-1:], self.weight.to(x.dtype), eps=1e-6)


class SwiGLU(nn.Module):
    """down(silu(gate x) * up x) (Shazeer 2020); gate and up are one product."""

    def __init__(self, dim: int, hidden: int):
        super().__init__()
        self.joined: nn.Module | None = None  # see Layer.freeze
        self.gate = nn.Linear(dim, hidden, bias=False)
        self.up = nn.Linear(dim, hidden, bias=False)
        self.down = nn.Linear(hidden, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        both = F.linear(x, _joined(self.gate, self.up)) if self.joined is None else self.joined(x)
        gate, up = both.chunk(2, dim=-1)
        return self.down(F.silu(gate) * up)


def in_float32(layer: nn.Linear, x: Tensor) -> Tensor:
    """For output layers, which leave mixed precision."""
    if not torch.amp.is_autocast_available(x.device.type):
        return F.linear(x.float(), layer.weight.float())
    with torch.autocast(x.device.type, enabled=False):
        return F.linear(x.float(), layer.weight.float())


def summed(x: Tensor, pending: Tensor | None) -> Tensor:
    return x if pending is None else x + pending


def only(x: Tensor, kept: Kept) -> Tensor:
    """Of (b t s ...) the tokens in these spans."""
    parts = [x[:, :, span] for span in kept]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)


@dataclass
class Scope:
    """What one forward pass shares between its layers.

    causal      frames see all earlier frames of the clip: no mask
    frames      else bool (b t k): which frames a frame may see; None where no layer needs it
    tokens      for dense layers: bool (b (t s) (k s)), or flex's block mask
    arrival     the new frames' place in the cache, if there is one
    ranges      by kind of layer: where a kernel for ranges can be used, what each position sees
    ring        time layers take the kernel that looks at the ring
    """

    layout: TokenLayout
    frame_ids: FrameIds
    cos: Tensor
    sin: Tensor
    causal: bool
    frames: Tensor | None = None
    tokens: Tensor | BlockMask | None = None
    arrival: Arrival | None = None
    ranges: dict[str, Spans] = field(default_factory=dict)
    ring: bool = False


class Attention(nn.Module):
    """Grouped-query attention with QK-norm. `kind` says over what: space, time or dense."""

    def __init__(self, config: TransformerConfig, kind: LayerKind):
        super().__init__()
        self.joined: nn.Module | None = None  # see Layer.freeze
        self.kind, self.config = kind, config
        inner, shared = config.heads * config.head_dim, config.kv_heads * config.head_dim
        self.query = nn.Linear(config.dim, inner, bias=False)
        self.key = nn.Linear(config.dim, shared, bias=False)
        self.value = nn.Linear(config.dim, shared, bias=False)
        self.out = nn.Linear(inner, config.dim, bias=False)
        self.query_norm = RMSNorm(config.head_dim)
        self.key_norm = RMSNorm(config.head_dim)

    def forward(self, x: Tokens, scope: Scope, kept: Kept, held: LayerCache | None) -> Float[Tensor, "b t k d"]:
        """The outputs of the tokens `kept` of each frame."""
        projected = (F.linear(x, _joined(self.query, self.key, self.value)) if self.joined is None
                     else self.joined(x))
        if self.kind in scope.ranges:
            mixed = self._ranged(projected, scope)
        elif self.kind == "time" and scope.ring:
            mixed = self._ring(projected, scope, held)
        else:
            mixed = rearrange(self._attend(projected, scope, held), "b t s h e -> b t s (h e)")
        return self.out(only(mixed, kept))

    def _ranged(self, projected: Tensor, scope: Scope) -> Tensor:
        from wakedream.transformer.frame_attention import frame_attention  # Triton, which not every machine has
        from wakedream.transformer.short_attention import short_attention

        weights, ranges = (self.query_norm.weight, self.key_norm.weight), scope.ranges[self.kind]
        heads = self.config.heads, self.config.kv_heads
        if self.kind == "space" and scope.layout.num_tokens > SHORT:
            return frame_attention(projected, *weights, *ranges, *heads, self._unit)
        cos, sin = (None, None) if self.kind == "space" else (scope.cos[0], scope.sin[0])
        return short_attention(projected, *weights, cos, sin, *ranges, *heads, self.kind)

    def _ring(self, projected: Tensor, scope: Scope, held: LayerCache | None) -> Tensor:
        from wakedream.transformer.ring_attention import ring_attention

        arrival = scope.arrival
        assert arrival is not None and held is not None
        cache = arrival.cache
        return ring_attention(projected, self.query_norm.weight, self.key_norm.weight, scope.cos, scope.sin,
                              held.keys, held.values, cache.frame_ids, cache.segments, arrival.frame_ids,
                              arrival.segments, arrival.written, self.config.heads, self.config.kv_heads, self._unit)

    @property
    def _unit(self) -> Tensor | None:
        """For kernels that make e4m3 of their outputs themselves."""
        return self.out.unit if isinstance(self.out, Fp8Product) else None

    def _attend(self, projected: Tensor, scope: Scope, held: LayerCache | None) -> Tensor:
        query, key, value = self._split(projected, scope)
        if self.kind == "space":
            return self._space(query, key, value, scope)
        if scope.arrival is not None:
            assert held is not None
            key, value = held.join(key, value, scope.arrival, whole=self.kind == "dense")
        return (self._time if self.kind == "time" else self._dense)(query, key, value, scope)

    def _split(self, projected: Tensor, scope: Scope) -> tuple[Tensor, Tensor, Tensor]:
        """query (b t s h e), key and value (b t s g e); normalised and rotated."""
        heads = rearrange(projected, "b t s (h e) -> b t s h e", e=self.config.head_dim)
        query, key, value = heads.split(
            (self.config.heads, self.config.kv_heads, self.config.kv_heads), dim=-2
        )
        query, key = self.query_norm(query), self.key_norm(key)
        if self.kind != "space":
            query, key = rotate(query, scope.cos, scope.sin), rotate(key, scope.cos, scope.sin)
        return query, key, value

    def _space(self, query: Tensor, key: Tensor, value: Tensor, scope: Scope) -> Tensor:
        """Each group of tokens attends to what it may see of its own frame: no mask."""
        batch = query.shape[0]
        query, key, value = (rearrange(x, "b t s h e -> (b t) h s e") for x in (query, key, value))
        mixed = []
        for span, spans in scope.layout.groups:
            keys, values = (
                torch.cat([x[:, :, part] for part in spans], dim=2) if len(spans) > 1 else x[:, :, spans[0]]
                for x in (key, value)
            )
            mixed.append(attend(query[:, :, span], keys, values, soft_cap=self.config.soft_cap))
        return rearrange(torch.cat(mixed, dim=2), "(b t) h s e -> b t s h e", b=batch)

    def _time(self, query: Tensor, key: Tensor, value: Tensor, scope: Scope) -> Tensor:
        """Each token index attends over frames; token and head are one batch axis for the kernel.

        Of one frame with a past, the k query heads that share a key are the rows of one product.
        """
        tokens, config = query.shape[2], self.config
        rows = config.heads // config.kv_heads if query.shape[1] == 1 and scope.arrival is not None else 1
        query = rearrange(query, "b t s (h k) e -> b (s h) (k t) e", k=rows)
        key, value = (rearrange(x, "b t s h e -> b (s h) t e") for x in (key, value))
        mask = None if scope.frames is None else scope.frames.unsqueeze(1)
        mixed = attend(query, key, value, mask=mask, causal=scope.causal, soft_cap=config.soft_cap)
        return rearrange(mixed, "b (s h) (k t) e -> b t s (h k) e", s=tokens, k=rows)

    def _dense(self, query: Tensor, key: Tensor, value: Tensor, scope: Scope) -> Tensor:
        tokens = query.shape[2]
        query, key, value = (rearrange(x, "b t s h e -> b h (t s) e") for x in (query, key, value))
        if isinstance(scope.tokens, BlockMask):
            mixed = attend_long(query, key, value, scope.tokens, self.config.soft_cap)
        else:
            assert scope.tokens is not None
            mixed = attend(query, key, value, mask=scope.tokens.unsqueeze(1), soft_cap=self.config.soft_cap)
        return rearrange(mixed, "b h (t s) e -> b t s h e", s=tokens)


class Layer(nn.Module):
    """x + attention(norm x), then x + mlp(norm x)."""

    def __init__(self, config: TransformerConfig, kind: LayerKind):
        super().__init__()
        self.attention_norm = RMSNorm(config.dim)
        self.attention = Attention(config, kind)
        self.mlp_norm = RMSNorm(config.dim)
        self.mlp = SwiGLU(config.dim, config.mlp_dim)

    def forward(self, x: Tokens, scope: Scope, kept: Kept = ALL, held: LayerCache | None = None,
                pending: Tokens | None = None) -> tuple[Float[Tensor, "b t k d"], Float[Tensor, "b t k d"] | None]:
        """The outputs of the tokens `kept` of each frame: of a last layer not all are used. held: the layer's own ring,
        given from outside, so that layers that differ in weights alone share what is compiled.

        Tokens are x + pending, as they come and as they go. Without gradients the last sum is left to whoever comes
        next: a compiled layer does it together with its norm. With them it is done (None is pending), so that to
        compute a layer again takes one tensor.
        """
        x = summed(x, pending)
        x = only(x, kept) + self.attention(self.attention_norm(x), scope, kept, held)
        made = self.mlp(self.mlp_norm(x))
        return (x + made, None) if torch.is_grad_enabled() else (x, made)

    @torch.no_grad()
    def freeze(self, fp8: bool = False) -> None:
        """Inference only, from now on: weights of one product become one matrix once, not in every call.

        fp8: products whose sides fit have it (`Fp8Product`), instead of their maps; they `take` their numbers later.
        """
        for owner, name, norm, maps, through in (
                ("attention", "joined", "attention_norm", ("query", "key", "value"), ()),
                ("attention", "out", "attention_norm", ("out",), ("value",)),
                ("mlp", "joined", "mlp_norm", ("gate", "up"), ()),
                ("mlp", "down", "mlp_norm", ("down",), ("gate", "up"))):
            part = getattr(self, owner)
            linear = [getattr(part, one) for one in maps]
            n, k = sum(one.out_features for one in linear), linear[0].in_features
            if fp8 and Fp8Product.fits(n, k):
                for one in maps:
                    delattr(part, one)
                setattr(part, name, Fp8Product(n, k, [f"{owner}.{one}" for one in maps], norm,
                                               [f"{owner}.{one}" for one in through], linear[0].weight.device))
            elif len(maps) > 1:
                setattr(part, name, Joined(*linear))


class Joined(nn.Module):
    """One product; the maps' own weights become parts of its matrix, so that none is kept twice."""

    weight: Tensor

    def __init__(self, *maps: nn.Linear):
        super().__init__()
        self.register_buffer("weight", _joined(*maps), persistent=False)
        for one, part in zip(maps, self.weight.split([one.out_features for one in maps]), strict=True):
            one.weight = nn.Parameter(part, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight)


def _joined(*maps: nn.Linear) -> Tensor:
    return torch.cat([one.weight for one in maps])


def initialise(layer: Layer, depth: int) -> None:
    """std 1/sqrt(fan in); residual outputs smaller by sqrt(2 depth); keys start equal to queries.

    With equal queries and keys a token first attends to tokens like itself, so that latents find the
    patches near them: without it small models stay at the mean image for minutes (docs/log.md).
    """
    for module in layer.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=1 / math.sqrt(module.in_features))
    attention = layer.attention
    with torch.no_grad():
        attention.out.weight /= math.sqrt(2 * depth)
        layer.mlp.down.weight /= math.sqrt(2 * depth)
        config = attention.config
        heads = rearrange(
            attention.query.weight, "(g k e) d -> g k e d", g=config.kv_heads, e=config.head_dim
        )
        attention.key.weight.copy_(rearrange(heads[:, 0], "g e d -> (g e) d"))
