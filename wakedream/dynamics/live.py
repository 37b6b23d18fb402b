"""Batches encoded as they are needed: nothing on the disk, and every clip as if it began where it was cut."""

from collections.abc import Set as AbstractSet
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wakedream.data.clip import Clip
from wakedream.data.loader import Loader
from wakedream.data.store import Store
from wakedream.data.trajectory import Columns, Trajectory, joined, of_actions
from wakedream.dynamics.config import LatentLoaderConfig
from wakedream.dynamics.encode import encoding_copy
from wakedream.dynamics.rows import Mix
from wakedream.tokenizer.tokenizer import Tokenizer


class LiveRows:
    """Rows as `rows.Rows` has them, each kind from a `Loader` of its own. Takes batches as long as it is asked."""

    def __init__(self, store: Store, tokenizer: Tokenizer, split: str, config: LatentLoaderConfig,
                 labelled: AbstractSet[int], seed: int, device: torch.device, rank: int, world_size: int):
        self.length, self.device, self.mix = config.length, device, Mix(config)
        self.model = encoding_copy(tokenizer, device)
        known = _Labelled(store, labelled)
        usual = self.mix.counts(dict.fromkeys((kind.name for kind in self.mix.kinds), 0))
        self.at_once = {kind.name: 1 if self.mix.varies else usual[kind.name] for kind in self.mix.kinds}  # rows
        self.loaders = {
            kind.name: Loader(known, split=split, batch_size=self.at_once[kind.name] * kind.windows, length=kind.length,
                              seed=seed, device=device, rank=rank, world_size=world_size, workers=config.workers,
                              cache_gib=config.cache_gib / len(self.mix.kinds))
            for kind in self.mix.kinds}

    def __next__(self) -> tuple[Tensor, Trajectory, dict[str, int]]:
        """latents float32 (b t l e), what was done, and how many rows of each kind."""
        counts = self.mix.counts(self._given())
        clips = [next(self.loaders[name]) for name, rows in counts.items() for _ in range(rows // self.at_once[name])]
        latents = torch.cat([self._rows(self._encode(clip)) for clip in clips])
        return latents, joined([clip.trajectory.map(self._rows) for clip in clips]), counts

    def _given(self) -> dict[str, int]:
        """Rows of each kind so far."""
        return {kind.name: self.loaders[kind.name].state_dict()["position"]
                // (kind.windows * self.loaders[kind.name].sampler.world_size) for kind in self.mix.kinds}

    @torch.inference_mode(False)
    @torch.no_grad()
    def _encode(self, clip: Clip) -> Tensor:
        with torch.autocast(self.device.type, enabled=False):
            return self.model._encode(clip.video.float() / 255, None)

    def _rows(self, tensor: Tensor) -> Tensor:
        """(windows frames ...) to (b t ...)"""
        return tensor.reshape(-1, self.length, *tensor.shape[2:])

    def state_dict(self) -> dict[str, Any]:
        return {name: loader.state_dict() for name, loader in self.loaders.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, loader in self.loaders.items():
            loader.load_state_dict(state.get(name, {}))

    def close(self) -> None:
        for loader in self.loaders.values():
            loader.close()


class _Labelled(Store):
    """A data set of whose actions only those of some episodes are known."""

    def __init__(self, store: Store, labelled: AbstractSet[int]):
        super().__init__(store.path, store.manifest)
        self.labelled = labelled

    def columns(self, episode_id: int, start: int = 0, stop: int | None = None) -> Columns:
        columns = super().columns(episode_id, start, stop)
        if episode_id in self.labelled:
            return columns
        return {name: np.zeros_like(values) if of_actions(name) else values for name, values in columns.items()}
