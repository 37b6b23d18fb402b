"""Batches for the agent: uniform rows and relevant ones; and the contexts in which imagination begins."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from wakedream.agent.config import AgentLoaderConfig, ContextConfig
from wakedream.agent.relevance import REWARD, of_tasks, runs, soon
from wakedream.agent.tasks import hindsight, under
from wakedream.data.sampler import shuffled
from wakedream.data.store import Store
from wakedream.data.trajectory import Moved, joined
from wakedream.dynamics.batches import LatentBatches
from wakedream.dynamics.clip import LatentClip
from wakedream.dynamics.config import LatentLoaderConfig
from wakedream.dynamics.latents import LatentStore
from wakedream.dynamics.noise import row_seeds
from wakedream.dynamics.table import LatentTable
from wakedream.errors import DataError


class Shuffled:
    """Numbers out of one or more sets in turn, each once per epoch of its set in an order decided by `seed`: rank r of
    W gets each W-th."""

    def __init__(self, sets: Sequence[np.ndarray], seed: int, rank: int = 0, world_size: int = 1):
        assert all(map(len, sets)), "nothing to choose from"
        self.sets, self.seed, self.rank, self.world_size, self.position = sets, seed, rank, world_size, 0

    def take(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Which set each is of, and the numbers."""
        at = self.position + self.rank + np.arange(count) * self.world_size
        self.position += count * self.world_size
        which, taken = at % len(self.sets), np.empty(count, np.int64)
        for one, chosen in enumerate(self.sets):
            mine = which == one
            taken[mine] = chosen[shuffled(at[mine] // len(self.sets), len(chosen), self.seed + one)]
        return which, taken


class AgentBatches:
    """An endless iterator of `LatentClip`s on `device`: uniform rows as LatentBatches has them, then `num_relevant`
    rows that are relevant to the tasks in turn, each a run of `length` frames over the ends of episodes (a segment
    each). Their frames carry a task in hindsight (tasks.hindsight), uniform rows a random one, with its rewards and
    ends."""

    def __init__(self, store: Store, latents: LatentStore, config: AgentLoaderConfig, tasks: Sequence[str] = (REWARD,),
                 *, split: str = "train", seed: int = 0, device: torch.device | str = "cpu", rank: int = 0,
                 world_size: int = 1):
        """DataError where nothing relevant happens, ConfigError for what there is not."""
        self.config, self.tasks, self.seed = config, tasks, seed
        self.device, episodes = torch.device(device), store.split(split)
        self.uniform = LatentBatches(store, latents, config=uniform_part(config), split=split, seed=seed,
                                     device=device, rank=rank, world_size=world_size)
        self._table = self.uniform.table
        firsts = np.cumsum([0, *(info.frames for info in episodes)])
        self._episode = torch.from_numpy(np.repeat(np.arange(len(episodes)), np.diff(firsts)))
        happened = of_tasks(store, episodes, tasks, config.relevant)
        self._hindsight = hindsight(happened, firsts, config.reach)
        self.relevant = Shuffled([runs(one, firsts, config.length, config.reach) for one in happened], seed, rank,
                                 world_size)

    def __iter__(self) -> "AgentBatches":
        return self

    def __next__(self) -> LatentClip:
        uniform = next(self.uniform)
        drawn = at_random(self.tasks, uniform.latents.shape[:2], self.seed, self.relevant.position, self.relevant.rank)
        which, first = self.relevant.take(self.config.num_relevant)
        frames = first[:, None] + np.arange(self.config.length)
        latents, trajectory = self._table.gather(frames, 0)
        task = torch.from_numpy(self._hindsight[which[:, None], frames].astype(np.int64))
        episode = self._episode[torch.from_numpy(frames)]
        segments = (episode - episode[:, :1]).to(self.device, non_blocking=True)
        return joined([replace(uniform, trajectory=under(uniform.trajectory, self.tasks, drawn)),
                       LatentClip(latents, under(trajectory, self.tasks, task), segments)])

    def state_dict(self) -> dict[str, Any]:
        return {"uniform": self.uniform.state_dict(), "relevant": self.relevant.position,
                "of": self._of}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["of"] != self._of:
            raise DataError(f"the place in the data was kept with {state['of']} relevant runs, now there are "
                            f"{self._of}: resume with the same data and options")
        self.uniform.load_state_dict(state["uniform"])
        self.relevant.position = state["relevant"]

    @property
    def _of(self) -> int:
        return sum(map(len, self.relevant.sets))

    def close(self) -> None:
        self.uniform.close()

    def __enter__(self) -> "AgentBatches":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def at_random(tasks: Sequence[str], shape: Sequence[int], *seeds: int) -> Int[Tensor, "b t"]:
    """A task for each row, at all its frames."""
    rows, frames = shape
    drawn = np.random.default_rng(seeds).integers(len(tasks), size=(rows, 1))
    return torch.from_numpy(drawn.repeat(frames, axis=1))


def uniform_part(config: AgentLoaderConfig) -> LatentLoaderConfig:
    """The uniform rows' own loader."""
    values = {field.name: getattr(config, field.name) for field in fields(LatentLoaderConfig)}
    return LatentLoaderConfig(**values | {"batch_size": config.batch_size - config.num_relevant})


@dataclass
class Contexts(Moved):
    """Where b rollouts begin. The first rows are an episode's first frame alone, of which only frame 0 counts.

    clip: latents (b t l e), what led into them, and what is to be done after them, as the task of each row
    seeds: int64 (b 1), of each rollout's noise and chances
    """

    clip: LatentClip
    seeds: Int[Tensor, "b one"]


class ContextBatches:
    """An endless iterator of `Contexts` on `device`; none ends where its episode did. Relevant ones have the task to
    which they are, each task in turn; the others a random one."""

    def __init__(self, store: Store, latents: LatentStore, config: ContextConfig, tasks: Sequence[str] = (REWARD,), *,
                 split: str = "train", seed: int = 0, device: torch.device | str = "cpu", rank: int = 0,
                 world_size: int = 1):
        """DataError when no episode is long enough, or nothing relevant happens."""
        self.config, self.tasks, self.device, episodes = config, tasks, torch.device(device), store.split(split)
        self.seed, self.rank, self.world_size, self.drawn = seed, rank, world_size, 0
        self._table = LatentTable(store, latents, episodes, self.device, config.cache_gib, {e.id for e in episodes},
                                  rank, world_size)
        firsts = np.cumsum([0, *(info.frames for info in episodes)])
        ends = np.zeros(firsts[-1], bool)
        ends[firsts[1:] - 1] = True
        begins = np.repeat(firsts[:-1], np.diff(firsts))
        whole = ~ends & (np.arange(firsts[-1]) - begins >= config.length - 1)  # frames on which a context may end
        if not whole.any():
            raise DataError(f"{store.path}: no episode has more than {config.length} frames, a context's: shorter "
                            "--loader.length")
        first_frames = firsts[:-1][np.diff(firsts) > 1]
        near = [whole & soon(one, firsts, config.reach) & ~one
                for one in of_tasks(store, episodes, tasks, config.relevant)]
        self.num_starts, self.num_relevant = config.num_starts, config.num_relevant
        kinds = {"starts": [first_frames], "relevant": [np.flatnonzero(one if one.any() else whole) for one in near],
                 "uniform": [np.flatnonzero(whole)]}
        self.kinds = {name: Shuffled(sets, seed + index, rank, world_size)
                      for index, (name, sets) in enumerate(kinds.items())}

    def __iter__(self) -> "ContextBatches":
        return self

    def __next__(self) -> Contexts:
        config, length = self.config, self.config.length
        rest = config.batch_size - self.num_starts - self.num_relevant
        task = at_random(self.tasks, (config.batch_size, length), self.seed, self.drawn, self.rank)
        starts = self.kinds["starts"].take(self.num_starts)[1][:, None].repeat(length, 1)
        which, near = self.kinds["relevant"].take(self.num_relevant)
        task[self.num_starts:self.num_starts + self.num_relevant] = torch.from_numpy(which)[:, None]
        last = np.concatenate([near, self.kinds["uniform"].take(rest)[1]])
        frames = np.concatenate([starts, last[:, None] + np.arange(1 - length, 1)])
        latents, trajectory = self._table.gather(frames, 0)
        trajectory = replace(trajectory, task=task.to(self.device, non_blocking=True))
        seeds = row_seeds(self.seed * 1_000_003 + self.drawn * self.world_size + self.rank, config.batch_size)
        self.drawn += 1
        clip = LatentClip(latents, trajectory, torch.zeros(frames.shape, dtype=torch.int64, device=self.device))
        return Contexts(clip, seeds[:, None].to(self.device, non_blocking=True))

    def state_dict(self) -> dict[str, Any]:
        return {"drawn": self.drawn, **{name: kind.position for name, kind in self.kinds.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.drawn = state["drawn"]
        for name, kind in self.kinds.items():
            kind.position = state[name]

    def close(self) -> None:
        pass

    def __enter__(self) -> "ContextBatches":
        return self

    def __exit__(self, *_: object) -> None:
        pass
