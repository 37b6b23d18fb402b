"""Where dreams begin: moments of a data set."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wakedream.data.actions import in_words
from wakedream.data.episode import Episode
from wakedream.data.store import Store
from wakedream.data.trajectory import Trajectory
from wakedream.errors import ConfigError
from wakedream.notation import Latents
from wakedream.world.model import World


class Starts:
    """Runs of `length` frames from anywhere in the training episodes, none of which ends with the last of them."""

    def __init__(self, world: World, data: Store | Path | str, length: int):
        """ConfigError where the data set is not of this world, or its episodes are too short."""
        self.world, self.length = world, length
        self.store = store = data if isinstance(data, Store) else Store.open(data)
        config, spec = world.tokenizer.config, world.dynamics.actions
        expected = (*config.frame_size, config.channels)
        if store.frame_shape != expected:
            raise ConfigError(f"the data set's frames are {store.frame_shape}, the world's {expected} (height, width, "
                              "channels): give the data that it was trained on, or such data")
        if store.spec != spec:
            raise ConfigError(f"the data set's actions are {in_words(store.spec)}; the world knows {in_words(spec)}: "
                              "give the data that it was trained on, or such data")
        self.episodes = [info for info in store.split("train") if info.frames > length]
        if not self.episodes:
            longest = max((info.frames for info in store.split("train")), default=0)
            raise ConfigError(f"the longest training episode has {longest} frames: expected more than the {length} of "
                              "a context, choose a smaller one")
        self.ends = np.cumsum([info.frames - length for info in self.episodes])

    def draw(self, rng: np.random.Generator) -> Episode:
        """Every moment alike."""
        return self._moment(int(rng.integers(self.ends[-1])))

    def some(self, count: int, rng: np.random.Generator) -> list[Episode]:
        """Different moments, at random; all that there are, in their order, where there are no more."""
        total = int(self.ends[-1])
        chosen = np.arange(total) if total <= count else rng.choice(total, count, replace=False)
        return [self._moment(int(moment)) for moment in chosen]

    def _moment(self, moment: int) -> Episode:
        number = int(np.searchsorted(self.ends, moment, side="right"))
        info = self.episodes[number]
        start = moment - int(self.ends[number] - (info.frames - self.length))
        return self.store.read(info.id, start, start + self.length)

    @torch.no_grad()
    def seen(self, parts: list[Episode]) -> tuple[Latents, Trajectory]:
        """What the tokenizer makes of them (n t l e), and the actions that led into their frames."""
        frames = torch.from_numpy(np.stack([part.video for part in parts])).permute(0, 1, 4, 2, 3)
        actions: dict[str, Tensor] = {name: torch.from_numpy(np.stack([part.actions[name] for part in parts]))
                                      for name in parts[0].actions}
        known = torch.from_numpy(np.stack([part.has_action for part in parts]))
        latents = self.world.tokenizer.encode(frames.to(self.world.device))
        return latents.float(), Trajectory.of_actions(actions, known)
