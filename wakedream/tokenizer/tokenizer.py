"""The causal tokenizer: frames to a few latents in [-1, 1] and back (paper section 3.1).

encoder([masked patches | latents | registers]) -> tanh(W latents) -> decoder([queries | W' z | registers]) -> pixels.
Nothing but the latents crosses from encoder to decoder.
"""

import math
from typing import Any, Self

import torch
from einops import repeat
from torch import Tensor, nn

from wakedream.config import from_dict, to_dict
from wakedream.model.given import Given, check_frames, frames_of, latents_of
from wakedream.model.pretrained import Pretrained
from wakedream.notation import Frames, Latents, Patches, PatchMask
from wakedream.tokenizer.config import TokenizerConfig
from wakedream.tokenizer.masking import fixed_mask
from wakedream.tokenizer.patches import grid_embedding, latent_grid, patchify, unpatchify
from wakedream.tokenizer.shapes import shape
from wakedream.tokenizer.stream import TokenizerStream
from wakedream.transformer.cache import Cache
from wakedream.transformer.layers import in_float32
from wakedream.transformer.layout import TokenLayout
from wakedream.transformer.transformer import Transformer

PIXEL_MEAN, PIXEL_STD = 0.5, 0.25  # pixels enter and leave the transformers at about unit scale


class Tokenizer(Pretrained):
    """Frames (b t c h w), float in [0, 1] or uint8, to latents (b t l e) in [-1, 1] and back.

    `forward` and `encode` take a patch mask for training and for looking at masked input; nothing is
    masked unless a mask is given.
    """

    KIND, OUTPUT, PARTS = "tokenizer", ("to_patch.weight",), ("tokenizer",)

    def __init__(self, config: TokenizerConfig):
        super().__init__()
        self.config = config
        dim, numbers = config.dim, config.patch_size**2 * config.channels
        self.embed_patch = _linear(numbers, dim)
        self.mask_token = nn.Parameter(torch.randn(dim) * 0.02)
        places = grid_embedding(*config.grid, dim, config.grid)
        self.patch_positions = nn.Parameter(places)
        near = grid_embedding(*latent_grid(config.num_latents, config.grid), dim, config.grid)
        self.latent_tokens = nn.Parameter(near)
        self.encoder_registers = nn.Parameter(torch.randn(config.num_registers, dim))
        self.encoder = Transformer(config.encoder)
        self.to_latent = _linear(dim, config.latent_dim)
        self.from_latent = _linear(config.latent_dim, dim)
        self.latent_positions = nn.Parameter(near.clone())
        self.decoder_registers = nn.Parameter(torch.randn(config.num_registers, dim))
        self.query_positions = None if config.shared else nn.Parameter(places.clone())
        self.decoder = None if config.shared else Transformer(config.decoder)
        self.to_patch = _linear(dim, numbers)
        self.encoder_layout, self.decoder_layout = _layouts(config)

    @property
    def blocks(self) -> list[nn.Module]:
        """The repeated layers: what is compiled, computed again or sharded one by one."""
        return [*self.encoder.layers, *(() if self.decoder is None else self.decoder.layers)]

    def forward(self, frames: Frames, mask: PatchMask | None = None) -> tuple[Frames, Latents]:
        """Reconstruction, not clamped (training needs the gradient), and the latents it was made from."""
        latents = self._encode(self._check(frames), mask)
        return self._decode(latents), latents

    def encode(self, frames: Given, mask: PatchMask | None = None) -> Latents:
        """Latents (b t l e) of frames (b t c h w). mask: bool (b t n), True where the encoder may not look."""
        return self._encode(self._check(frames), mask)

    def decode(self, latents: Given) -> Frames:
        """Frames (b t c h w) in [0, 1] from latents (b t l e) in [-1, 1] alone, which may be drawn a little beyond."""
        latents = latents_of(latents)
        expected = (self.config.num_latents, self.config.latent_dim)
        if latents.ndim != 4 or latents.shape[2:] != expected:
            raise ValueError(
                f"expected latents (b, t, {expected[0]}, {expected[1]}), got {tuple(latents.shape)}"
            )
        if 0 in latents.shape[:2]:
            raise ValueError(f"no latents are given, {tuple(latents.shape)}: expected those of one frame or more in "
                             "each of one or more rows")
        return self.pictures(latents)

    def pictures(self, latents: Latents) -> Frames:
        """As `decode`, of latents that a model just made: they are not looked at."""
        return self._decode(latents).clamp(0, 1)

    def reconstruct(self, frames: Given, mask: PatchMask | None = None) -> Frames:
        return self.pictures(self.encode(frames, mask))

    def stream(self, batch_size: int = 1, **options: Any) -> TokenizerStream:
        """Encode and decode one frame at a time, as if the whole past were there; options as TokenizerStream's."""
        return TokenizerStream(self, batch_size, **options)

    def patch_mask(
        self, batch: int, frames: int, ratio: float, generator: torch.Generator | None = None
    ) -> PatchMask:
        """A random mask (b t n) that hides exactly round(ratio * n) patches of every frame."""
        return fixed_mask(batch, frames, self.config.num_patches, ratio, self.mask_token.device, generator)

    def show_mask(self, frames: Frames, mask: PatchMask) -> Frames:
        """The frames as the encoder sees them: masked patches grey."""
        return self._unpatchify(self._patchify(frames).masked_fill(mask.unsqueeze(-1), PIXEL_MEAN))

    @classmethod
    def from_preset(cls, name: str) -> Self:
        """An untrained tokenizer of a preset's shape."""
        return cls(shape(name))

    def about(self) -> dict[str, Any]:
        return {"model": to_dict(self.config)}

    @classmethod
    def build(cls, about: dict[str, Any]) -> Self:
        return cls(from_dict(TokenizerConfig, about["model"]))

    def _encode(self, frames: Frames, mask: PatchMask | None, cache: Cache | None = None) -> Latents:
        patches = (self._patchify(frames) - PIXEL_MEAN) / PIXEL_STD
        patches = self.embed_patch(patches.to(self.embed_patch.weight.dtype))
        if mask is not None:
            patches = torch.where(mask.unsqueeze(-1), self.mask_token.to(patches.dtype), patches)
        patches = patches + self.patch_positions
        tokens = self._join(patches, self.latent_tokens, self.encoder_registers)
        tokens = self.encoder(tokens, self.encoder_layout, cache=cache, keep=("latent",))
        return torch.tanh(self.to_latent(tokens).float())

    def _decode(self, latents: Latents, cache: Cache | None = None, rows: Tensor | None = None) -> Frames:
        batch, num_frames = latents.shape[:2]
        queries = (
            self.mask_token + self.patch_positions if self.query_positions is None else self.query_positions
        )
        queries = repeat(queries, "n d -> b t n d", b=batch, t=num_frames)
        tokens = self._join(
            queries, self.from_latent(latents.to(queries.dtype)) + self.latent_positions, self.decoder_registers
        )
        decoder = self.encoder if self.decoder is None else self.decoder
        tokens = decoder(tokens, self.decoder_layout, cache=cache, rows=rows, keep=("patch",))
        patches = in_float32(self.to_patch, tokens) * PIXEL_STD + PIXEL_MEAN
        return self._unpatchify(patches)

    def _patchify(self, frames: Frames) -> Patches:
        return patchify(frames, self.config.patch_size, self.config.grid)

    def _unpatchify(self, patches: Patches) -> Frames:
        return unpatchify(patches, self.config.patch_size, self.config.frame_size, self.config.grid)

    def _join(self, patches: Tensor, latents: Tensor, registers: Tensor) -> Tensor:
        batch, num_frames = patches.shape[:2]
        parts = [
            part if part.ndim == 4 else repeat(part, "k d -> b t k d", b=batch, t=num_frames)
            for part in (patches, latents, registers)
        ]
        return torch.cat([part.to(patches.dtype) for part in parts], dim=2)

    def __repr__(self) -> str:
        own = self.config
        height, width = own.frame_size
        return (f"{type(self).__name__}({width}x{height} frames of {own.channels} channels, {own.num_latents}x"
                f"{own.latent_dim} latents each, {self.size})")

    def _check(self, given: Given) -> Frames:
        frames = frames_of(given)
        expected = (self.config.channels, *self.config.frame_size)
        if frames.ndim != 5 or frames.shape[2:] != expected:
            raise ValueError(
                f"expected frames (b, t, {', '.join(map(str, expected))}), got {tuple(frames.shape)}"
            )
        if 0 in frames.shape[:2]:
            raise ValueError(f"no frames are given, {tuple(frames.shape)}: expected one or more in each of one or more "
                             "rows")
        check_frames(frames)
        return frames.to(self.mask_token.dtype) / 255 if frames.dtype == torch.uint8 else frames


def _linear(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs, bias=False)
    nn.init.normal_(layer.weight, std=1 / math.sqrt(inputs))
    return layer


def _layouts(config: TokenizerConfig) -> tuple[TokenLayout, TokenLayout]:
    """Encoder: latents and registers see everything, patches see patches.
    Decoder: queries see everything, latents see latents, registers see latents and registers."""
    segments = (
        ("patch", config.num_patches),
        ("latent", config.num_latents),
        ("register", config.num_registers),
    )
    everything = ("patch", "latent", "register")
    encoder = TokenLayout(segments, (("patch", ("patch",)), ("latent", everything), ("register", everything)))
    decoder = TokenLayout(
        segments, (("patch", everything), ("latent", ("latent",)), ("register", ("latent", "register")))
    )
    return encoder, decoder
