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
from wakedream.dynamics.encode import frozen_tokenizer
from wakedream.dynamics.rows import kinds
from wakedream.tokenizer.tokenizer import Tokenizer


class LiveRows:
    """Rows as `rows.Rows` has them, each kind from a `Loader` of its own. Takes batches as long as it is asked."""

    def __init__(self, store: Store, tokenizer: Tokenizer, split: str, config: LatentLoaderConfig,
                 labelled: AbstractSet[int], seed: int, device: torch.device, rank: int, world_size: int):
        self.length, self.device = config.length, device
        self.model = frozen_tokenizer(tokenizer, device)
        wanted = kinds(config)
        known = _Labelled(store, labelled)
        self.loaders = {
            kind.name: Loader(known, split=split, batch_size=kind.windows, length=kind.length, seed=seed,
                              device=device, rank=rank, world_size=world_size, workers=config.workers,
                              cache_gib=config.cache_gib / len(wanted))
            for kind in wanted}

    def __next__(self) -> tuple[Tensor, Trajectory]:
        """latents float32 (b t l e), and what was done."""
        clips = [next(loader) for loader in self.loaders.values()]
        latents = torch.cat([self._rows(self._encode(clip)) for clip in clips])
        return latents, joined([clip.trajectory.map(self._rows) for clip in clips])

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
