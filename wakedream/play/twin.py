"""The real environment beside a dream: it begins where the dream begins, and the same actions lead on in both."""

import threading
from typing import Any

import numpy as np

from wakedream.data.actions import ActionSpec, action_of, in_words
from wakedream.environments.processes import telling
from wakedream.environments.registry import environment
from wakedream.errors import ConfigError
from wakedream.world.model import World


class Twin:
    def __init__(self, name: str, world: World):
        """ConfigError where the environment's actions are not the world's, by kind and size, or its frames."""
        self.name, self.busy = name, threading.Lock()
        config, own = world.tokenizer.config, world.dynamics.actions
        self.env: Any = environment(name).make(config.frame_size)
        theirs = ActionSpec.from_space(self.env.action_space)
        names = own.names_in(theirs)
        if names is None:
            raise ConfigError(f"--env {name}: its actions are {in_words(theirs)}; the world knows {in_words(own)}")
        self.names, self.over = names, True
        if (shape := self.begin(0).shape) != (expected := (*config.frame_size, config.channels)):
            raise ConfigError(f"--env {name}: its frames are {shape}, the world's {expected} (height, width, channels)")

    def begin(self, seed: int) -> np.ndarray:
        """The first frame, uint8 (h w c)."""
        with self.busy, telling(self.name, 0):
            self.frame, _ = self.env.reset(seed=seed % 2**31)
        self.over = False
        return np.array(self.frame)

    def step(self, values: dict[str, np.ndarray]) -> np.ndarray:
        """The next frame after these actions by component; after an end the last one stays. DataError for whatever the
        environment raises."""
        with self.busy:
            if not self.over:
                action = action_of(self.env.action_space, {self.names[name]: value for name, value in values.items()})
                with telling(self.name, 0):
                    self.frame, _, terminated, truncated, _ = self.env.step(action)
                self.over = bool(terminated or truncated)
        return np.array(self.frame)

    def close(self) -> None:
        """From any thread; it then stands still."""
        with self.busy:
            self.over = True
            self.env.close()
