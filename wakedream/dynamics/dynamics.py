"""The interactive dynamics model (paper section 3.2): noisy latents and actions to clean latents, frame by frame.

A frame's tokens are [actions | signal level and step size | spatial tokens | registers | others, by name]; the
transformer is the tokenizer's, with another layout.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Self

import torch
from einops import rearrange, repeat
from torch import Tensor, nn

from wakedream.config import from_dict, to_dict
from wakedream.data.actions import ActionSpec
from wakedream.data.trajectory import Trajectory
from wakedream.dynamics.config import DynamicsConfig
from wakedream.dynamics.dream import Dream
from wakedream.dynamics.embed import ActionEmbedding
from wakedream.dynamics.shortcut import Noised, finest_index, signal_of
from wakedream.model.given import Given
from wakedream.model.pretrained import Pretrained
from wakedream.notation import FrameIds, Latents, Levels, Tokens
from wakedream.tokenizer.patches import grid_embedding, latent_grid
from wakedream.transformer.cache import Cache
from wakedream.transformer.layers import in_float32
from wakedream.transformer.layout import TokenLayout
from wakedream.transformer.transformer import Transformer

SPATIAL = "spatial"


class Look(NamedTuple):
    """What one pass says. latents: the clean ones (b t l e), float32, standardised; outputs: by the name of the tokens,
    (b t k d), normalised, of those that were asked for."""

    latents: Latents
    outputs: dict[str, Tensor]


class Dynamics(Pretrained):
    """Latents (b t l e), standardised and noised, with the actions that led into each frame, to clean ones.

    latent_mean, latent_scale   of the training latents: `standardise` and `unstandardise`
    tokenizer                   fingerprint of the tokenizer whose latents these are; "" before training
    shortcut                    bool (): whether larger steps than the smallest have been trained
    """

    KIND, OUTPUT, PARTS = "dynamics model", ("to_latent.weight",), ("dynamics", "agent")
    WITHIN: ClassVar = {"agent": "dynamics."}
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
        self.step_table = nn.Embedding(finest_index(config.finest_steps) + 1, dim - dim // 2)
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

    def forward(self, noised: Noised, trajectory: Trajectory, *, segments: FrameIds | None = None,
                tokens: Mapping[str, Tokens] | None = None, keep: Sequence[str] = (), cache: Cache | None = None,
                committed: int | None = None, rows: Tensor | None = None, frame_ids: FrameIds | None = None) -> Look:
        """Clean latents, and the outputs of the tokens named in `keep`.

        trajectory  whose actions led into the frames; segments: int64 (b t), as in LatentClip
        tokens      further tokens of every frame, by name, (b t k d): they see all tokens before them and themselves,
                    and no others see them, so that latents and all other outputs stay what they are
        cache       the frames are those after the cache's, and join it; committed, rows, frame_ids: as Transformer's
        """
        extra = dict(tokens or {})
        layout = self.layout_with(extra)
        action = self.embed_action(trajectory.actions, trajectory.has_action)
        shortcut = self._embed_shortcut(noised.levels, noised.step_indices)
        spatial = self._embed_latents(noised.latents)
        if self.config.told:
            spatial = spatial + (action.mean(2, keepdim=True) + shortcut).to(spatial.dtype)
        joined = self._join(action, shortcut, spatial, extra)
        kept = tuple(dict.fromkeys((SPATIAL, *keep)))
        out = self.transformer(joined, layout, segments=segments, cache=cache, committed=committed, rows=rows,
                               frame_ids=frame_ids, keep=kept)
        outputs = layout.split(out, kept)
        put_out = rearrange(in_float32(self.to_latent, outputs[SPATIAL]), "b t s (k e) -> b t (s k) e",
                            k=self.config.packing)
        if self.config.predict == "v":
            signal = signal_of(noised.levels, self.config.finest_steps)
            put_out = noised.latents + (1 - signal)[..., None, None] * put_out
        return Look(put_out, {name: outputs[name] for name in keep})

    def standardise(self, latents: Latents) -> Latents:
        return (latents.float() - self.latent_mean) / self.latent_scale

    def unstandardise(self, latents: Latents) -> Latents:
        """Back to what the tokenizer decodes, in [-1, 1]."""
        return (latents * self.latent_scale + self.latent_mean).clamp(-1, 1)

    def init_cache(self, batch_size: int, tokens: Mapping[str, int] | None = None) -> Cache:
        """tokens: how many there are of each further kind."""
        return self.transformer.init_cache(batch_size, self.layout.with_tokens(tuple((tokens or {}).items())))

    def layout_with(self, tokens: Mapping[str, Tensor]) -> TokenLayout:
        return self.layout.with_tokens(tuple((name, part.shape[2]) for name, part in tokens.items()))

    def dream(self, batch_size: int = 1, *, sampling_steps: int = 4, seed: Given | None = None,
              precision: str | None = None, graph: bool | None = None, compile: bool = False) -> Dream:
        """Latents dreamed frame by frame; options as Dream's."""
        return Dream(self, batch_size, sampling_steps=sampling_steps, seed=seed, precision=precision, graph=graph,
                     compile=compile)

    def __repr__(self) -> str:
        own, names = self.config, ", ".join(f"{c.name} ({c.kind}, {c.values})" for c in self.actions.components)
        return (f"{type(self).__name__}({own.num_latents}x{own.latent_dim} latents a frame, "
                f"{f'actions {names}' if names else 'no actions'}, {self.size})")

    def about(self) -> dict[str, Any]:
        return {"model": to_dict(self.config), "actions": to_dict(self.actions), "tokenizer": self.tokenizer}

    @classmethod
    def build(cls, about: dict[str, Any]) -> Self:
        made = cls(from_dict(DynamicsConfig, about["model"]), from_dict(ActionSpec, about["actions"]))
        made.tokenizer = about["tokenizer"]
        return made

    def _embed_shortcut(self, levels: Levels, step_indices: Levels) -> Tensor:
        return torch.cat([self.signal_table(levels), self.step_table(step_indices)], dim=-1).unsqueeze(2)

    def _embed_latents(self, noisy: Latents) -> Tensor:
        packed = rearrange(noisy, "b t (s k) e -> b t s (k e)", k=self.config.packing)
        return self.embed_latent(packed.to(self.embed_latent.weight.dtype)) + self.spatial_positions

    def _join(self, actions: Tensor, shortcut: Tensor, latents: Tensor, extra: Mapping[str, Tokens]) -> Tensor:
        batch, num_frames = latents.shape[:2]
        registers = repeat(self.registers, "r d -> b t r d", b=batch, t=num_frames)
        parts = (actions, shortcut, latents, registers, *extra.values())
        return torch.cat([part.to(latents.dtype) for part in parts], dim=2)


def _layout(config: DynamicsConfig) -> TokenLayout:
    """All see all."""
    segments = (("action", config.num_action_tokens), ("shortcut", 1), (SPATIAL, config.num_spatial),
                ("register", config.num_registers))
    names = tuple(name for name, _ in segments)
    return TokenLayout(segments, tuple((name, names) for name in names))
