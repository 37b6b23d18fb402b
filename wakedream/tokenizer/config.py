"""The shape of a tokenizer and of its objective. Imports no torch."""

from dataclasses import dataclass
from typing import Literal

from wakedream.config import added, check
from wakedream.transformer.config import LayerKind, TransformerConfig


@dataclass(frozen=True)
class TokenizerConfig:
    """Causal tokenizer (paper section 3.1): frames to `num_latents` x `latent_dim` numbers in [-1, 1] and back."""

    height: int
    """frame height in pixels"""
    width: int
    """frame width in pixels"""
    patch_size: int
    """side of the square patches"""
    dim: int
    """model width d"""
    encoder_depth: int
    """layers of the encoder (of the one transformer, if shared)"""
    decoder_depth: int
    """layers of the decoder (ignored if shared)"""
    heads: int
    """attention heads"""
    mlp_dim: int
    """hidden width of the SwiGLU"""
    num_latents: int = 16
    """latent tokens per frame"""
    latent_dim: int = 32
    """channels per latent token"""
    num_registers: int = 4
    """register tokens per frame"""
    kv_heads: int | None = None
    """key/value heads (default: as many as heads)"""
    pattern: tuple[LayerKind, ...] = ("space", "space", "space", "time")
    """layer kinds, repeated over the depth"""
    window: int = 8
    """frames that attention over time may see, the current one included"""
    soft_cap: float | None = None
    """attention logits become cap * tanh(logit / cap)"""
    shared: bool = False
    """one transformer serves as encoder and decoder (the seed's unified transformer)"""
    channels: int = 3
    """colour channels"""
    padded: tuple[int, int] | None = None
    """height and width to which frames are padded with black at the bottom and right
    (default: the next multiples of patch_size)"""

    def __post_init__(self) -> None:
        sizes = (self.height, self.width, self.patch_size, self.num_latents, self.latent_dim, self.channels)
        check(min(sizes) > 0 and self.num_registers >= 0, f"sizes must be positive, got {self}")
        check(
            self.patch_size <= min(self.height, self.width),
            f"patches of {self.patch_size} do not fit into {self.height}x{self.width} frames",
        )
        size = self.padded or (self.height, self.width)
        fits = size[0] >= self.height and size[1] >= self.width
        check(
            self.padded is None or (fits and size[0] % self.patch_size == 0 and size[1] % self.patch_size == 0),
            f"padded is {self.padded}: expected multiples of patch_size {self.patch_size}, "
            f"at least {self.height}x{self.width}",
        )
        check(self.encoder is not None and self.decoder is not None, "")  # their own checks raise

    @property
    def encoder(self) -> TransformerConfig:
        return self._transformer(self.encoder_depth)

    @property
    def decoder(self) -> TransformerConfig:
        return self._transformer(self.encoder_depth if self.shared else self.decoder_depth)

    def _transformer(self, depth: int) -> TransformerConfig:
        return TransformerConfig(
            self.dim,
            depth,
            self.heads,
            self.kv_heads or self.heads,
            self.mlp_dim,
            self.pattern,
            self.window,
            self.soft_cap,
        )

    @property
    def frame_size(self) -> tuple[int, int]:
        return self.height, self.width

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches, padding included."""
        height, width = self.padded or (self.height, self.width)
        return -(-height // self.patch_size), -(-width // self.patch_size)

    @property
    def num_patches(self) -> int:
        return self.grid[0] * self.grid[1]


@dataclass(frozen=True)
class TokenizerObjectiveConfig:
    """MSE + LPIPS on the whole prediction from partly masked frames (paper eq. 5)."""

    mask: Literal["uniform", "fixed"] = "uniform"
    """uniform: every frame draws p ~ U(0, mask_ratio) and masks each patch with probability p;
    fixed: exactly mask_ratio of every frame's patches"""
    mask_ratio: float = 0.9
    """highest probability, or the fixed share"""
    moving_weight: float = added(1.0, was=1.0)
    """weight of the squared error where a pixel moves, that is, differs from the background of the training data (its
    median frame), beside 1 elsewhere; their mean is 1. In worlds that scroll, where nearly all moves, it says little"""
    shift: int = added(0, was=0)
    """pixels by which half of the clips are moved at most, up or down and to a side, their edges repeated; 0: none.
    Against learning by heart where things stood"""
    lpips_weight: float = 0.2
    """weight of LPIPS beside MSE, both divided by their running RMS; 0 needs no LPIPS weights"""
    lpips_fraction: float = 0.5
    """share of the frames of a batch on which LPIPS is computed"""
    lpips_net: Literal["alex", "vgg"] = "alex"
    """feature network of LPIPS"""

    def __post_init__(self) -> None:
        check(0 <= self.mask_ratio < 1, f"mask_ratio must be in [0, 1), got {self.mask_ratio}")
        check(self.moving_weight > 0, f"moving_weight must be above 0, got {self.moving_weight}")
        check(self.shift >= 0, f"shift must not be negative, got {self.shift}")
        check(self.lpips_weight >= 0, f"lpips_weight must not be negative, got {self.lpips_weight}")
        check(0 < self.lpips_fraction <= 1, f"lpips_fraction must be in (0, 1], got {self.lpips_fraction}")
