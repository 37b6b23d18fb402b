"""Makes minari/ with Minari's own writer, in an environment of its own: python make_minari.py

    pip install 'minari[hdf5,arrow]' pillow

Made on 2026-11-25 with minari 0.5.4.
"""

import os
import shutil
from pathlib import Path

import gymnasium as gym
import numpy as np
from gymnasium import spaces

HERE = Path(__file__).parent / "minari"
STEPS = 7


class Walk(gym.Env):
    """Frame t has 2 t + 2 bright columns; even episodes end for good, odd ones are cut."""

    episode = -1

    def __init__(self, pictures: bool = True):
        pixels, state = spaces.Box(0, 255, (32, 32, 3), np.uint8), spaces.Box(-1e3, 1e3, (2,), np.float32)
        both = spaces.Dict({"inner": spaces.Dict({"pixels": pixels}), "state": state})
        self.observation_space = both if pictures else state
        self.action_space = spaces.Dict({
            "move": spaces.Discrete(3, start=1), "arm": spaces.Box(-2, 2, (2,), np.float32),
            "more": spaces.MultiDiscrete([2, 3]), "bits": spaces.MultiBinary(3)}) if pictures else spaces.Discrete(2)
        self.pictures = pictures

    def seen(self):
        pixels, state = np.full((32, 32, 3), 40, np.uint8), np.array([self.t, 0], np.float32)
        pixels[:, :self.t * 2 + 2] = 240
        return {"inner": {"pixels": pixels}, "state": state} if self.pictures else state

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        Walk.episode += 1
        self.t = 0
        return self.seen(), {}

    def step(self, action):
        self.t += 1
        end, good = self.t == STEPS, self.episode % 2 == 0
        return self.seen(), float(self.t), end and good, end and not good, {}


def action(t: int) -> dict:
    """Taken at frame t."""
    return {"move": np.int64(1 + t % 3), "arm": np.array([t / 10, -t / 10], np.float32),
            "more": np.array([t % 2, t % 3]), "bits": np.array([t % 2, 1, 0], np.int8)}


if __name__ == "__main__":
    import minari
    from make_minari import Walk  # its counter is the environment's

    os.environ["MINARI_DATASETS_PATH"] = str(HERE)
    shutil.rmtree(HERE, ignore_errors=True)
    HERE.mkdir()
    gym.register("Walk-v0", "make_minari:Walk")
    for name, format, jpeg, pictures in (
            ("walk/hdf5-v0", "hdf5", True, True), ("walk/arrow-v0", "arrow", True, True),
            ("walk/parquet-v0", "parquet", True, True), ("walk/raw-v0", "arrow", False, True),
            ("walk/blind-v0", "hdf5", True, False)):
        Walk.episode = -1
        env = minari.DataCollector(gym.make("Walk-v0", pictures=pictures), data_format=format, jpeg_encoding=jpeg)
        for episode in range(2):
            env.reset(seed=10 + episode)
            for t in range(STEPS):
                env.step(action(t) if pictures else np.int64(t % 2))
        env.create_dataset(dataset_id=name, algorithm_name="x", code_permalink="x", author="x", author_email="x")
