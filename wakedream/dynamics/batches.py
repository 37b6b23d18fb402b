"""Batches for the dynamics model: images, packed short clips and long clips, always in the same rows."""

import hashlib
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from wakedream.data.sampler import WindowSampler
from wakedream.data.store import Store
from wakedream.data.trajectory import stacked
from wakedream.dynamics.clip import LatentClip
from wakedream.dynamics.config import LatentLoaderConfig
from wakedream.dynamics.latents import LatentStore
from wakedream.dynamics.live import LiveRows
from wakedream.dynamics.rows import IMAGES, Mix, Rows
from wakedream.dynamics.table import LatentTable
from wakedream.errors import ConfigError
from wakedream.tokenizer.tokenizer import Tokenizer


class LatentBatches:
    """An endless iterator of `LatentClip`s of one shape on `device`, in an order decided by `seed`.

        rows          what                                                  segments    latents
        first         images: unrelated frames, no action                   t           each frame encoded alone
        then          short clips side by side, length / short a row        t // short  with their episode's past
        last          one long clip each                                    0           with their episode's past

    How many of each: `Mix`. Every window of each kind comes once per epoch, shared out among the ranks. A clip that
    begins inside an episode keeps its first action. Of `config.labelled` of the episodes actions are known; elsewhere
    has_action is False.

    source "stored": from `latents`, kept in memory. "live": from the frames, encoded by `tokenizer`; a clip then has
    no past but its own. Stored costs the interpreter next to nothing, and neither waits for a GPU.
    """

    def __init__(self, store: Store, latents: LatentStore | None = None, *, tokenizer: Tokenizer | None = None,
                 split: str = "train", config: LatentLoaderConfig | None = None, seed: int = 0,
                 device: torch.device | str = "cpu", rank: int = 0, world_size: int = 1):
        """DataError when there is no clip of the lengths asked for, or when latents are damaged or of other data."""
        self.config = config = config or LatentLoaderConfig()
        device, episodes = torch.device(device), store.split(split)
        self.labelled = labelled_episodes((info.id for info in episodes), config.labelled)
        self.mix = Mix(config)
        self._segments = self.mix.segments(config.length).to(device)
        self._known: dict[tuple[int, ...], tuple[Tensor, Tensor]] = {}  # by the rows' kinds
        self._device = device
        self._live: LiveRows | None = None
        if config.source == "live":
            if tokenizer is None:
                raise ConfigError('source "live" encodes frames: give the tokenizer')
            self._live = LiveRows(store, tokenizer, split, config, self.labelled, seed, device, rank, world_size)
            return
        if latents is None:
            raise ConfigError('source "stored" reads latents: encode the data set first, or choose "live"')
        latents.check(latents.tokenizer, store)
        self._rows = Rows([info.frames for info in episodes], config, seed=seed, rank=rank, world_size=world_size)
        self.table = LatentTable(store, latents, episodes, device, config.cache_gib, self.labelled, rank,
                                  world_size)

    def __iter__(self) -> "LatentBatches":
        return self

    def __next__(self) -> LatentClip:
        if self._live:
            latents, trajectory, counts = next(self._live)
        else:
            frames, counts = next(self._rows)
            latents, trajectory = self.table.gather(frames, counts.get(IMAGES, 0))
        segments, keeps = self._of_kinds(tuple(self.mix.names(counts)))
        return LatentClip(latents, trajectory.with_actions(trajectory.actions, trajectory.has_action & keeps), segments)

    def _of_kinds(self, kinds: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """The segments of rows of these kinds, int64 (b t), and which rows show their actions, bool (b 1)."""
        if kinds not in self._known:
            numbers = torch.tensor(kinds)
            shows = torch.tensor([[self.mix.kinds[number].name != IMAGES] for number in kinds])
            if self._device.type == "cuda":  # so that the device need not be waited for
                numbers, shows = numbers.pin_memory(), shows.pin_memory()
            over = numbers.to(self._device, non_blocking=True)
            self._known[kinds] = self._segments.index_select(0, over), shows.to(self._device, non_blocking=True)
        return self._known[kinds]

    def state_dict(self) -> dict[str, Any]:
        return (self._live or self._rows).state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The next batches are those that followed the state; DataError when it belongs to other data."""
        (self._live or self._rows).load_state_dict(state)

    def close(self) -> None:
        if self._live:
            self._live.close()

    def __enter__(self) -> "LatentBatches":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def labelled_episodes(episodes: Iterable[int], share: float) -> set[int]:
    """This share of the episodes, at least one unless it is 0. A smaller share is a part of a larger one."""
    order = sorted(episodes, key=lambda number: hashlib.sha256(f"labelled {number}".encode()).digest())
    return set(order[:max(round(share * len(order)), 1 if share > 0 else 0)])


def evaluation_latents(store: Store, latents: LatentStore, split: str, count: int, length: int,
                       seed: int = 0) -> LatentClip:
    """`count` fixed clips on the CPU, of the very windows of data.loader.evaluation_clips, all actions known.

    Fewer when the split has fewer windows. DataError when it has none, or one of them is damaged.
    """
    latents.check(latents.tokenizer, store)
    episodes = store.split(split)
    sampler = WindowSampler([info.frames for info in episodes], length, seed=seed, shuffle=False)
    taken, columns = [], []
    for index, start in sampler.spread(count, seed):
        episode, window = episodes[index].id, slice(start, start + length)
        taken.append(latents.read(episode, window.start, window.stop)[0])
        columns.append(store.columns(episode, window.start, window.stop))
    return LatentClip(torch.stack(taken), stacked(columns), torch.zeros(len(taken), length, dtype=torch.int64))
