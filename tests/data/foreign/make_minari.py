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

    def __init__(self, pictures: bool = True, infos: bool = False, render_mode: str | None = None):
        self.infos, self.render_mode = infos, render_mode
        pixels, state = spaces.Box(0, 255, (32, 32, 3), np.uint8), spaces.Box(-1e3, 1e3, (2,), np.float32)
        both = spaces.Dict({"inner": spaces.Dict({"pixels": pixels}), "state": state})
        self.observation_space = both if pictures else state
        self.action_space = spaces.Dict({
            "move": spaces.Discrete(3, start=1), "arm": spaces.Box(-2, 2, (2,), np.float32),
            "more": spaces.MultiDiscrete([2, 3]), "bits": spaces.MultiBinary(3)}) if pictures else spaces.Discrete(2)
        self.pictures = pictures

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012

    def render(self):
        pixels = np.full((32, 32, 3), 40, np.uint8)
        pixels[:, :self.t * 2 + 2] = 240
        return pixels

    def seen(self):
        state = np.array([self.t, self.chance], np.float32)
        return {"inner": {"pixels": self.render()}, "state": state} if self.pictures else state

    def told(self):
        return {"deep": {"rendered": self.render()}} if self.infos else {}

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        Walk.episode += 1
        self.t, self.chance = 0, self.np_random.random()
        return self.seen(), self.told()

    def step(self, action):
        self.t += 1
        end, good = self.t == STEPS, self.episode % 2 == 0
        return self.seen(), float(self.t), end and good, end and not good, self.told()


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
    for name, format, jpeg, pictures, infos in (
            ("walk/hdf5-v0", "hdf5", True, True, False), ("walk/arrow-v0", "arrow", True, True, False),
            ("walk/parquet-v0", "parquet", True, True, False), ("walk/raw-v0", "arrow", False, True, False),
            ("walk/blind-v0", "hdf5", True, False, False), ("walk/blind-arrow-v0", "arrow", True, False, False),
            ("walk/infos-v0", "hdf5", True, False, True), ("walk/infos-arrow-v0", "arrow", True, False, True)):
        Walk.episode = -1
        env = minari.DataCollector(gym.make("Walk-v0", pictures=pictures, infos=infos), data_format=format,
                                   jpeg_encoding=jpeg, record_infos=infos)
        for episode in range(2):
            env.reset(seed=10 + episode)
            for t in range(STEPS):
                env.step(action(t) if pictures else np.int64(t % 2))
        env.create_dataset(dataset_id=name, algorithm_name="x", code_permalink="x", author="x", author_email="x")
