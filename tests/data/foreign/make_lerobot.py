"""Makes lerobot_v30, lerobot_v30_images and lerobot_v21 with LeRobot's own writer, in an environment of its own:

    python make_lerobot.py v30      with lerobot 0.4.4, numpy < 2.3
    python make_lerobot.py v21      with lerobot 0.3.3, numpy < 2.3

They were made on 2026-11-25. torchvision, which the writer imports and does not use, was an empty stand-in.
"""

import shutil
import sys
from pathlib import Path

import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset

CAMERAS = ("observation.images.top", "observation.images.wrist")
EPISODES = ((12, "go left"), (9, "go right"), (15, "go left"))


def picture(episode: int, t: int, camera: int) -> np.ndarray:
    """Frame t has 4 t + 4 bright columns in the camera's channel, on the episode's grey."""
    image = np.full((64, 64, 3), 20 + 40 * episode, np.uint8)
    image[:, :4 * t + 4, camera] = 250
    return image


def write(out: Path, videos: bool, task_apart: bool) -> None:
    shutil.rmtree(out, ignore_errors=True)
    features = {name: {"dtype": "video" if videos else "image", "shape": (64, 64, 3),
                       "names": ["height", "width", "channels"]} for name in CAMERAS}
    features |= {"observation.state": {"dtype": "float32", "shape": (2,), "names": ["x", "y"]},
                 "action": {"dtype": "float32", "shape": (2,), "names": ["dx", "dy"]},
                 "next.reward": {"dtype": "float32", "shape": (1,), "names": None},
                 "next.done": {"dtype": "bool", "shape": (1,), "names": None}}
    dataset = LeRobotDataset.create(repo_id="made/here", fps=10, features=features, root=out, use_videos=videos)
    for episode, (length, task) in enumerate(EPISODES):
        for t in range(length):
            row = {name: picture(episode, t, camera) for camera, name in enumerate(CAMERAS)}
            row |= {"observation.state": np.array([t, episode], np.float32),
                    "action": np.array([t + 100 * episode, -t], np.float32),
                    "next.reward": np.array([t / 2], np.float32),
                    "next.done": np.array([t >= length - (2 if episode == 1 else 1)])}
            if task_apart:
                dataset.add_frame(row, task=task)
            else:
                dataset.add_frame(row | {"task": task})
        dataset.save_episode()
    if hasattr(dataset, "finalize"):
        dataset.finalize()


if __name__ == "__main__":
    here = Path(__file__).parent
    if sys.argv[1] == "v30":
        write(here / "lerobot_v30", videos=True, task_apart=False)
        write(here / "lerobot_v30_images", videos=False, task_apart=False)
    else:
        write(here / "lerobot_v21", videos=True, task_apart=True)
