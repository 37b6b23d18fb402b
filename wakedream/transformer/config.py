"""The shape of a block-causal transformer. Imports no torch."""

from dataclasses import dataclass
from typing import Literal

from wakedream.config import check

LayerKind = Literal["space", "time", "dense"]


@dataclass(frozen=True)
class TransformerConfig:
    """One block-causal transformer (paper section 3.4; grouped queries and layer pattern as in the paper)."""

    dim: int
    """model width d"""
    depth: int
    """number of layers"""
    heads: int
    """query heads; dim / heads must be even"""
    kv_heads: int
    """key/value heads, shared by groups of query heads"""
    mlp_dim: int
    """hidden width of the SwiGLU"""
    pattern: tuple[LayerKind, ...] = ("space", "space", "space", "time")
    """layer kinds, repeated over the depth"""
    window: int = 16
    """frames that time and dense layers may see, the current one included"""
    soft_cap: float | None = None
    """attention logits become cap * tanh(logit / cap)"""

    def __post_init__(self) -> None:
        check(
            min(self.dim, self.depth, self.heads, self.kv_heads, self.mlp_dim) > 0,
            f"dim, depth, heads, kv_heads and mlp_dim must be positive, got {self}",
        )
        check(
            self.dim % self.heads == 0 and (self.dim // self.heads) % 2 == 0,
            f"dim / heads must be an even whole number, got {self.dim} / {self.heads}",
        )
        check(
            self.heads % self.kv_heads == 0,
            f"heads must be a multiple of kv_heads, got {self.heads} and {self.kv_heads}",
        )
        check(self.window >= 1, f"window counts the current frame and must be at least 1, got {self.window}")
        check(self.soft_cap is None or self.soft_cap > 0, f"soft_cap must be positive, got {self.soft_cap}")
        check(
            any(kind != "space" for kind in self.layers),
            f"nothing crosses frames: the first {self.depth} layers of the pattern {self.pattern} are all "
            "'space'; use a deeper model or a pattern with 'time' or 'dense' earlier",
        )

    @property
    def layers(self) -> tuple[LayerKind, ...]:
        return (
            tuple(self.pattern[index % len(self.pattern)] for index in range(self.depth))
            if self.pattern
            else ()
        )

    @property
    def head_dim(self) -> int:
        return self.dim // self.heads
