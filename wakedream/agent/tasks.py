"""Tasks by name: the environment's reward, or events; which are told to whom, and what it makes of a frame."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from wakedream.agent.relevance import REWARD, until
from wakedream.config import suggest
from wakedream.data.trajectory import Trajectory

Task = str | Sequence[str]  # one for all rows, or one for each


def numbers(tasks: Sequence[str], named: Task, rows: int) -> Int[Tensor, " b"]:
    """Of the tasks by name, for each row. ConfigError for one that there is not, ValueError for another count."""
    each = [named] * rows if isinstance(named, str) else list(named)
    if len(each) != rows:
        raise ValueError(f"expected one task for all rows, or one for each of {rows}, got {len(each)}")
    for name in each:
        if name not in tasks:
            raise suggest("task", name, tasks)
    return torch.tensor([tasks.index(name) for name in each], dtype=torch.int64)


def under(trajectory: Trajectory, tasks: Sequence[str], task: Int[Tensor, "b t"]) -> Trajectory:
    """The same play as its frames' tasks see it. An event's: a reward of 1 arrives with the frame of the event, and
    there the task ends, whether or not the episode goes on. The task "reward": as the environment has it."""
    task, never = task.to(trajectory.rewards.device), torch.zeros_like(trajectory.terminated)
    events = torch.stack([never if name == REWARD else trajectory.events[name] for name in tasks])
    came = events.gather(0, task[None])[0]
    own = torch.zeros_like(never)
    for number, name in enumerate(tasks):
        if name == REWARD:
            own |= task == number
    ended = trajectory.terminated | came
    return replace(trajectory, rewards=torch.where(own, trajectory.rewards, came.float()),
                   has_reward=torch.where(own, trajectory.has_reward, trajectory.has_action),
                   terminated=ended, truncated=trajectory.truncated & ~ended, task=task)


def hindsight(happened: Sequence[np.ndarray], firsts: np.ndarray, reach: int) -> Int[np.ndarray, "k n"]:
    """In a row of task k, the task of each frame: k while that happens within `reach` frames; else what happens next
    there, as a sequence of prompts would have it; where nothing does, k.

    happened: bool (n) for each task. Of tasks 0, which happens at frame 1, and 1, at frame 3, with frames enough:

        0 0 1 1 0       a row of task 0
        1 1 1 1 1       a row of task 1
    """
    distance = np.stack([until(one, firsts) for one in happened])
    near, own = distance <= reach, np.arange(len(happened))[:, None]
    return np.where(near | ~near.any(0), own, distance.argmin(0)).astype(np.int16)
