"""Small data sets and videos for the tests of data/."""

from pathlib import Path

import numpy as np

from wakedream.data.actions import ActionComponent, ActionSpec
from wakedream.data.episode import Episode
from wakedream.data.store import Store, StoreWriter
from wakedream.data.video import encode_mp4

SPEC = ActionSpec((ActionComponent("move", "categorical", 5), ActionComponent("arm", "continuous", 2)))
SHAPE = (16, 24, 3)


def episode(frames: int, seed: int, terminated: bool = True) -> Episode:
    """A noisy square that wanders over a gradient, with random actions, events and an extra."""
    rng = np.random.default_rng(seed)
    h, w, c = SHAPE
    video = np.empty((frames, h, w, c), np.uint8)
    video[:] = (np.arange(w) * 9 + seed)[None, None, :, None]
    for t in range(frames):
        x = (t + seed) % (w - 5)
        video[t, 4:9, x:x + 5] = rng.integers(0, 256, (5, 5, c))
    actions = {"move": rng.integers(0, 5, frames), "arm": rng.normal(size=(frames, 2)).astype(np.float32)}
    has_action = np.arange(frames) > 0
    extras = {"daylight": rng.random(frames, np.float32)} if seed % 2 else {}
    rewards = rng.normal(size=frames).astype(np.float32)
    has_reward = has_action & (np.arange(frames) % 5 != seed % 5)
    events = {name: has_action & (rng.random(frames) < 0.3) for name in ("hit", "fall")[:seed % 3]}
    return Episode(video, actions, has_action, rewards * has_reward, terminated, not terminated, extras, {"seed": seed},
                   has_reward, events, task=seed % 4)


def make_store(path: Path, lengths: list[int], shard_frames: int = 100) -> list[Episode]:
    episodes = [episode(frames, seed) for seed, frames in enumerate(lengths)]
    with StoreWriter(path, SPEC, frame_shape=SHAPE, shard_frames=shard_frames) as writer:
        for each in episodes:
            writer.add(each)
    return episodes


def same(got: Episode, expected: Episode, start: int = 0, stop: int | None = None) -> bool:
    window = slice(start, stop)
    last = stop is None or stop == len(expected.video)
    columns, truth = got.columns(), expected.columns()
    return (np.array_equal(got.video, expected.video[window])
            and columns.keys() == truth.keys()
            and all(np.array_equal(columns[name], values[window]) and columns[name].dtype == values.dtype
                    for name, values in truth.items())
            and got.terminated == (expected.terminated and last)
            and got.truncated == (expected.truncated and last))


def flip(path: Path, position: int) -> None:
    with open(path, "r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ 0x10]))


def frames_position(store: Store, episode_id: int) -> tuple[Path, int]:
    """The shard's file, and where in it this episode's compressed frames begin."""
    info = next(info for info in store.episodes if info.id == episode_id)
    shard = store._shard(info.shard)
    return shard.path, shard._first_byte + info.offset


def film(frames: int = 30, height: int = 48, width: int = 64) -> np.ndarray:
    """Frames whose red channel tells the time: uint8 (t h w 3)."""
    video = np.zeros((frames, height, width, 3), np.uint8)
    video[..., 0] = np.linspace(0, 240, frames).astype(np.uint8)[:, None, None]
    video[:, :, : width // 2, 1] = 200
    return video


def write_film(path: Path, frames: int = 30, **kw: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_mp4(film(frames, **kw), fps=10))
    return path


def cut_film(path: Path, keep: float = 0.6) -> Path:
    """A video that breaks off: its index stands first, so it opens and then ends early."""
    rng = np.random.default_rng(0)
    data = encode_mp4(rng.integers(0, 256, (60, 48, 64, 3), np.uint8), fps=10)
    path.write_bytes(data[: int(len(data) * keep)])
    return path
