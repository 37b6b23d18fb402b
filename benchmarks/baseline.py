"""The tokenizer written the obvious way, to hold speed against: `wakedream bench tokenizer-train --baseline`.

The same model as wakedream.Tokenizer, weight for weight and name for name: a state dict of one fits the other, and
then both give the same numbers (tests/bench/test_baseline.py). But every product is its own nn.Linear, every
attention is SDPA with a boolean mask, nothing is fused, skipped or recorded, and the step is the usual five lines.
"""

from collections.abc import Callable

import torch
from einops import rearrange, repeat
from torch import Tensor, nn
from torch.nn import functional as F

from wakedream.tokenizer.config import TokenizerConfig, TokenizerObjectiveConfig
from wakedream.transformer.config import TransformerConfig


class Attention(nn.Module):
    def __init__(self, config: TransformerConfig, kind: str):
        super().__init__()
        self.kind, self.config = kind, config
        shared = config.kv_heads * config.head_dim
        self.query = nn.Linear(config.dim, config.dim, bias=False)
        self.key = nn.Linear(config.dim, shared, bias=False)
        self.value = nn.Linear(config.dim, shared, bias=False)
        self.out = nn.Linear(config.dim, config.dim, bias=False)
        self.query_norm = nn.RMSNorm(config.head_dim, eps=1e-6)
        self.key_norm = nn.RMSNorm(config.head_dim, eps=1e-6)

    def forward(self, x: Tensor, masks: dict[str, Tensor]) -> Tensor:
        e = self.config.head_dim
        query = self.query_norm(rearrange(self.query(x), "b t s (h e) -> b h t s e", e=e))
        key = self.key_norm(rearrange(self.key(x), "b t s (h e) -> b h t s e", e=e))
        value = rearrange(self.value(x), "b t s (h e) -> b h t s e", e=e)
        times = self.config.heads // self.config.kv_heads
        key, value = key.repeat_interleave(times, 1), value.repeat_interleave(times, 1)
        if self.kind != "space":
            query, key = rotary(query), rotary(key)
        b, _, t, s, _ = query.shape
        fold = {"space": "b h t s e -> (b t) h s e", "time": "b h t s e -> (b s) h t e",
                "dense": "b h t s e -> b h (t s) e"}[self.kind]
        query, key, value = (rearrange(part, fold) for part in (query, key, value))
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=masks[self.kind])
        unfold = f"{fold.split(' -> ')[1]} -> b t s (h e)"
        return self.out(rearrange(mixed, unfold, b=b, t=t, s=s))


class Layer(nn.Module):
    def __init__(self, config: TransformerConfig, kind: str):
        super().__init__()
        self.attention_norm = nn.RMSNorm(config.dim, eps=1e-6)
        self.attention = Attention(config, kind)
        self.mlp_norm = nn.RMSNorm(config.dim, eps=1e-6)
        self.mlp = SwiGLU(config.dim, config.mlp_dim)

    def forward(self, x: Tensor, masks: dict[str, Tensor]) -> Tensor:
        x = x + self.attention(self.attention_norm(x), masks)
        return x + self.mlp(self.mlp_norm(x))


class SwiGLU(nn.Module):
    def __init__(self, dim: int, hidden: int):
        super().__init__()
        self.gate = nn.Linear(dim, hidden, bias=False)
        self.up = nn.Linear(dim, hidden, bias=False)
        self.down = nn.Linear(hidden, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Transformer(nn.Module):
    def __init__(self, config: TransformerConfig):
        super().__init__()
        assert config.soft_cap is None, "SDPA has no soft cap"
        self.config = config
        self.layers = nn.ModuleList(Layer(config, kind) for kind in config.layers)
        self.norm = nn.RMSNorm(config.dim, eps=1e-6)

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
        """x (b t s d); tokens: bool (s s), which tokens of a frame see which."""
        t = torch.arange(x.shape[1], device=x.device)
        ahead = t[:, None] - t[None, :]
        frames = (ahead >= 0) & (ahead < self.config.window)
        masks = {"space": tokens, "time": frames,
                 "dense": rearrange(frames[:, None, :, None] & tokens[None, :, None, :], "q i k j -> (q i) (k j)")}
        for layer in self.layers:
            x = layer(x, masks)
        return self.norm(x)


class PlainTokenizer(nn.Module):
    def __init__(self, config: TokenizerConfig):
        super().__init__()
        self.config = config
        dim, numbers, latents = config.dim, config.patch_size**2 * config.channels, config.num_latents
        self.embed_patch = nn.Linear(numbers, dim, bias=False)
        self.mask_token = nn.Parameter(torch.randn(dim) * 0.02)
        self.patch_positions = nn.Parameter(torch.randn(config.num_patches, dim))
        self.latent_tokens = nn.Parameter(torch.randn(latents, dim))
        self.encoder_registers = nn.Parameter(torch.randn(config.num_registers, dim))
        self.encoder = Transformer(config.encoder)
        self.to_latent = nn.Linear(dim, config.latent_dim, bias=False)
        self.from_latent = nn.Linear(config.latent_dim, dim, bias=False)
        self.latent_positions = nn.Parameter(torch.randn(latents, dim))
        self.decoder_registers = nn.Parameter(torch.randn(config.num_registers, dim))
        self.query_positions = None if config.shared else nn.Parameter(torch.randn(config.num_patches, dim))
        self.decoder = None if config.shared else Transformer(config.decoder)
        self.to_patch = nn.Linear(dim, numbers, bias=False)

    def forward(self, frames: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Frames (b t c h w) in [0, 1] to their reconstruction, not clamped, and the latents."""
        latents = self.encode(frames, mask)
        return self.decode(latents), latents

    def encode(self, frames: Tensor, mask: Tensor | None = None) -> Tensor:
        config, (rows, columns), size = self.config, self.config.grid, self.config.patch_size
        frames = F.pad(frames, (0, columns * size - config.width, 0, rows * size - config.height))
        patches = rearrange(frames, "b t c (i y) (j x) -> b t (i j) (y x c)", y=size, x=size)
        x = self.embed_patch((patches - 0.5) / 0.25)
        if mask is not None:
            x = torch.where(mask.unsqueeze(-1), self.mask_token, x)
        x = x + self.patch_positions
        others = [repeat(part, "k d -> b t k d", b=x.shape[0], t=x.shape[1])
                  for part in (self.latent_tokens, self.encoder_registers)]
        n, k, r = config.num_patches, config.num_latents, config.num_registers
        tokens = torch.ones(n + k + r, n + k + r, dtype=torch.bool, device=x.device)
        tokens[:n, n:] = False  # patches see patches
        x = self.encoder(torch.cat([x, *others], dim=2), tokens)
        return torch.tanh(self.to_latent(x[:, :, n:n + k]).float())

    def decode(self, latents: Tensor) -> Tensor:
        config, b, t = self.config, *latents.shape[:2]
        queries = self.patch_positions + self.mask_token if self.query_positions is None else self.query_positions
        parts = [repeat(queries, "n d -> b t n d", b=b, t=t), self.from_latent(latents) + self.latent_positions,
                 repeat(self.decoder_registers, "r d -> b t r d", b=b, t=t)]
        n, k = config.num_patches, config.num_latents
        size = n + k + config.num_registers
        tokens = torch.ones(size, size, dtype=torch.bool, device=latents.device)
        tokens[n:, :n] = False  # only queries see queries
        tokens[n:n + k, n + k:] = False  # latents see latents
        x = (self.encoder if self.decoder is None else self.decoder)(torch.cat(parts, dim=2), tokens)
        patches = self.to_patch(x[:, :, :n]) * 0.25 + 0.5
        frames = rearrange(patches, "b t (i j) (y x c) -> b t c (i y) (j x)", i=config.grid[0],
                           y=config.patch_size, x=config.patch_size)
        return frames[..., :config.height, :config.width]


def rotary(x: Tensor) -> Tensor:
    """Rotate (b h t s e) by the frame number t."""
    t, e = x.shape[2], x.shape[-1]
    frequencies = 10_000.0 ** (-torch.arange(0, e, 2, device=x.device) / e)
    angles = torch.arange(t, device=x.device)[:, None] * frequencies
    cos, sin = angles.cos()[:, None], angles.sin()[:, None]
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, first * sin + second * cos), dim=-1)


def train_step(config: TokenizerConfig, objective: TokenizerObjectiveConfig, batches, device: torch.device,
               bf16: bool, compile: bool = False, lr: float = 1e-3) -> Callable[[], None]:
    """A function that takes the next clip and trains on it: masks, MSE, AdamW, clipped gradient."""
    model = PlainTokenizer(config).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.95), weight_decay=0.0)
    forward = torch.compile(model) if compile else model

    def step() -> None:
        frames = next(batches).video.float() / 255
        shape = (*frames.shape[:2], config.num_patches)
        if objective.mask == "uniform":
            mask = torch.rand(shape, device=device) < torch.rand(*shape[:2], 1, device=device) * objective.mask_ratio
        else:
            mask = torch.rand(shape, device=device).argsort(-1).argsort(-1) < round(objective.mask_ratio * shape[-1])
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
            prediction, _ = forward(frames, mask)
        loss = F.mse_loss(prediction.float(), frames)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step
