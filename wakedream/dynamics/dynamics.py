"""The interactive dynamics model (paper section 3.2): noisy latents and actions to clean latents, frame by frame.

A frame's tokens are [actions | signal level and step size | spatial tokens | registers]; the transformer is the
tokenizer's, with another layout.
"""

import math
from pathlib import Path
from typing import Any

import torch
from einops import rearrange, repeat
from torch import Tensor, nn

from wakedream.data.actions import ActionSpec
from wakedream.dynamics.config import DynamicsConfig
from wakedream.dynamics.embed import ActionEmbedding
from wakedream.dynamics.shortcut import Levels, finest_size, signal_of
from wakedream.notation import FrameIds, Latents
from wakedream.tokenizer.patches import grid_embedding, latent_grid
from wakedream.transformer.cache import Cache
from wakedream.transformer.layers import in_float32
from wakedream.transformer.layout import TokenLayout
from wakedream.transformer.transformer import Transformer


class Dynamics(nn.Module):
    """Latents (b t l e), standardised and noised, with the actions that led into each frame, to clean ones.

    latent_mean, latent_scale   of the training latents: `standardise` and `unstandardise`
    tokenizer                   fingerprint of the tokenizer whose latents these are; "" before training
    shortcut                    bool (): whether larger steps than the smallest have been trained
    """

    latent_mean: Tensor
    latent_scale: Tensor
    shortcut: Tensor

    def __init__(self, config: DynamicsConfig, actions: ActionSpec | None = None):
        super().__init__()
        self.config, self.actions = config, actions or ActionSpec()
        self.tokenizer = ""
        dim, packed = config.dim, config.packing * config.latent_dim
        self.register_buffer("latent_mean", torch.zeros(config.num_latents, config.latent_dim))
        self.register_buffer("latent_scale", torch.ones(()))
        self.register_buffer("shortcut", torch.zeros((), dtype=torch.bool))
        self.embed_action = ActionEmbedding(self.actions, dim, config.num_action_tokens, config.mouse_bins)
        self.signal_table = nn.Embedding(config.finest_steps, dim // 2)
        self.step_table = nn.Embedding(finest_size(config.finest_steps) + 1, dim - dim // 2)
        self.embed_latent = nn.Linear(packed, dim, bias=False)
        nn.init.normal_(self.embed_latent.weight, std=1 / math.sqrt(packed))
        square = (config.num_spatial, config.num_spatial)
        grid = latent_grid(config.num_spatial, square)
        self.spatial_positions = nn.Parameter(grid_embedding(*grid, dim, grid))
        self.registers = nn.Parameter(torch.randn(config.num_registers, dim))
        self.transformer = Transformer(config.transformer)
        self.to_latent = nn.Linear(dim, packed, bias=False)
        nn.init.zeros_(self.to_latent.weight)
        self.layout = _layout(config)

    @property
    def blocks(self) -> list[nn.Module]:
        """The repeated layers: what is compiled, computed again or sharded one by one."""
        return list(self.transformer.layers)

    def forward(self, noisy: Latents, levels: Levels, sizes: Levels, actions: dict[str, Tensor], has_action: Tensor, *,
                segments: FrameIds | None = None, cache: Cache | None = None, commit: bool = True) -> Latents:
        """Clean latents, float32, standardised as `noisy` is.

        levels, sizes   int64 (b t), see shortcut.py; actions, has_action: as in LatentClip; segments: int64 (b t)
        cache, commit   the frames are those after the cache's, and join it unless commit is False
        """
        tokens = self._join(self.embed_action(actions, has_action), self._embed_shortcut(levels, sizes),
                            self._embed_latents(noisy))
        tokens = self.transformer(tokens, self.layout, segments=segments, cache=cache, commit=commit, keep="spatial")
        put_out = rearrange(in_float32(self.to_latent, tokens), "b t s (k e) -> b t (s k) e", k=self.config.packing)
        if self.config.predict == "x":
            return put_out
        return noisy + (1 - signal_of(levels, self.config.finest_steps))[..., None, None] * put_out

    def standardise(self, latents: Latents) -> Latents:
        return (latents.float() - self.latent_mean) / self.latent_scale

    def unstandardise(self, latents: Latents) -> Latents:
        """Back to what the tokenizer decodes, in [-1, 1]."""
        return (latents * self.latent_scale + self.latent_mean).clamp(-1, 1)

    def init_cache(self, batch_size: int) -> Cache:
        return self.transformer.init_cache(batch_size, self.layout)

    def dream(self, batch_size: int = 1, **options: Any):
        """Latents dreamed frame by frame; options as Dream's."""
        from wakedream.dynamics.dream import Dream

        return Dream(self, batch_size, **options)

    @classmethod
    def from_pretrained(cls, path: str | Path) -> "Dynamics":
        """Of a run folder (its best weights, else its latest checkpoint) or of a weights folder."""
        from wakedream.dynamics.weights import load_dynamics

        return load_dynamics(Path(path))

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a weights folder: config.json and model.safetensors."""
        from wakedream.dynamics.weights import save_dynamics

        save_dynamics(self, Path(folder))

    def _embed_shortcut(self, levels: Levels, sizes: Levels) -> Tensor:
        return torch.cat([self.signal_table(levels), self.step_table(sizes)], dim=-1).unsqueeze(2)

    def _embed_latents(self, noisy: Latents) -> Tensor:
        packed = rearrange(noisy, "b t (s k) e -> b t s (k e)", k=self.config.packing)
        return self.embed_latent(packed.to(self.embed_latent.weight.dtype)) + self.spatial_positions

    def _join(self, *parts: Tensor) -> Tensor:
        batch, num_frames = parts[0].shape[:2]
        registers = repeat(self.registers, "r d -> b t r d", b=batch, t=num_frames)
        dtype = parts[-1].dtype
        return torch.cat([part.to(dtype) for part in (*parts, registers)], dim=2)


def _layout(config: DynamicsConfig) -> TokenLayout:
    """All see all."""
    segments = (("action", config.num_action_tokens), ("shortcut", 1), ("spatial", config.num_spatial),
                ("register", config.num_registers))
    names = tuple(name for name, _ in segments)
    return TokenLayout(segments, tuple((name, names) for name in names))

