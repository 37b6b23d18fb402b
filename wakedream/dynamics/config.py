"""The shape of a dynamics model, of its objective and of its batches. Imports no torch."""

from dataclasses import dataclass
from typing import Literal

from wakedream.config import added, check
from wakedream.transformer.config import LayerKind, TransformerConfig


@dataclass(frozen=True)
class DynamicsConfig:
    """Interactive dynamics model (paper section 3.2): past latents and actions to the next frame's latents."""

    num_latents: int
    """latent tokens per frame, the tokenizer's"""
    latent_dim: int
    """channels per latent token, the tokenizer's"""
    dim: int
    """model width d"""
    depth: int
    """number of layers"""
    heads: int
    """attention heads"""
    mlp_dim: int
    """hidden width of the SwiGLU"""
    packing: int = 1
    """latents that are joined into one wider spatial token"""
    num_registers: int = 4
    """register tokens per frame"""
    num_action_tokens: int = 1
    """action tokens per frame"""
    kv_heads: int | None = None
    """key/value heads (default: as many as heads)"""
    pattern: tuple[LayerKind, ...] = ("space", "space", "space", "time")
    """layer kinds, repeated over the depth"""
    window: int = 32
    """frames that attention over time may see, the current one included"""
    soft_cap: float | None = None
    """attention logits become cap * tanh(logit / cap)"""
    finest_steps: int = 64
    """sampling steps of the finest grid (K_max): a power of two; signal levels and step sizes are multiples of
    1 / finest_steps"""
    predict: Literal["x", "v"] = "x"
    """what the network puts out: clean latents, or velocities (for comparison)"""
    mouse_bins: int | None = None
    """continuous actions as so many mu-law bins for each dimension (paper: 11); default: as numbers"""

    told: bool = added(False, was=False)
    """spatial tokens are told action, signal level and step size at once, added to them, and need not learn first to
    look at those tokens: small models obey many times sooner"""

    def __post_init__(self) -> None:
        sizes = (self.num_latents, self.latent_dim, self.packing, self.num_action_tokens)
        check(min(sizes) > 0 and self.num_registers >= 0, f"sizes must be positive, got {self}")
        check(self.num_latents % self.packing == 0,
              f"packing is {self.packing}: expected a divisor of the {self.num_latents} latents")
        check(self.finest_steps >= 2 and self.finest_steps & (self.finest_steps - 1) == 0,
              f"finest_steps is {self.finest_steps}: expected a power of two, at least 2")
        check(self.mouse_bins is None or self.mouse_bins >= 3,
              f"mouse_bins is {self.mouse_bins}: expected at least 3, or None")
        check(self.transformer is not None, "")  # its own checks raise

    @property
    def transformer(self) -> TransformerConfig:
        return TransformerConfig(self.dim, self.depth, self.heads, self.kv_heads or self.heads, self.mlp_dim,
                                 self.pattern, self.window, self.soft_cap)

    @property
    def num_spatial(self) -> int:
        """Spatial tokens per frame."""
        return self.num_latents // self.packing


@dataclass(frozen=True)
class DynamicsObjectiveConfig:
    """Shortcut forcing (paper section 3.2, eq. 7): flow matching at the smallest step, bootstrap at larger ones."""

    ramp: bool = True
    """weigh by 0.9 * signal level + 0.1 (paper eq. 8)"""
    bootstrap_fraction: float = 0.25
    """share of the rows of a batch that are bootstrap rows; 0: flow only"""
    bootstrap_from: int = 2000
    """first step with bootstrap rows; flow alone before"""
    commit_fraction: float = added(0.0, was=0.0)
    """share of the rows whose frames all stand at the commit level, as a dream's past does"""

    def __post_init__(self) -> None:
        check(0 <= self.commit_fraction <= 1, f"commit_fraction is {self.commit_fraction}: expected 0 to 1")
        check(0 <= self.bootstrap_fraction <= 0.25,
              f"bootstrap_fraction must be in [0, 0.25], got {self.bootstrap_fraction}")
        check(self.bootstrap_from >= 0, f"bootstrap_from must not be negative, got {self.bootstrap_from}")


@dataclass(frozen=True)
class LatentLoaderConfig:
    """How latents reach the dynamics model. Every batch has one shape; its rows are images, packed short clips and
    long clips, in that order and in fixed numbers; in a batch too small for one of each, as their share is due."""

    batch_size: int = 16
    """rows per batch on each device"""
    length: int = 64
    """frames per row, and of a long clip"""
    short: int = 16
    """frames of a short clip; length / short of them share a row"""
    long_fraction: float = 0.25
    """share of rows that are one long clip"""
    image_fraction: float = 0.3
    """share of rows whose frames are independent images, so that a dream can begin from nothing"""
    labelled: float = 1.0
    """share of episodes whose actions the model is shown"""
    source: Literal["stored", "live"] = "stored"
    """stored: the data set is encoded once, before training; live: every batch is encoded anew, each clip as if it
    began there"""
    workers: int = 4
    """threads that unpack frames, if live"""
    cache_gib: float = 8.0
    """keep latents on the device if they take at most so many GiB; else they are read from their files, mapped into
    memory"""

    def __post_init__(self) -> None:
        for name in ("batch_size", "length", "short", "workers"):
            check(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}: expected at least 1")
        check(self.length % self.short == 0, f"length {self.length} must be a multiple of short {self.short}")
        for name in ("long_fraction", "image_fraction", "labelled"):
            check(0 <= getattr(self, name) <= 1, f"{name} is {getattr(self, name)}: expected 0 to 1")
        check(self.image_fraction + self.long_fraction <= 1 + 1e-9,
              f"image_fraction {self.image_fraction} and long_fraction {self.long_fraction} are over 1 together")

    @property
    def images(self) -> int:
        """Rows of images in a batch."""
        return round(self.image_fraction * self.batch_size)

    @property
    def longs(self) -> int:
        """Rows of one long clip in a batch."""
        return min(round(self.long_fraction * self.batch_size), self.batch_size - self.images)
