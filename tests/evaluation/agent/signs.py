"""A world whose picture says which action is right; players whose returns a plain loop knows. Processes import it."""

import os
import signal
from pathlib import Path

import gymnasium
import numpy as np

SHADE = 60  # of a pixel, by state
LONGEST = 40


class Signs(gymnasium.Env):
    """1 for the right action, -0.25 for another. As long as its seed says; of every third one nothing ends but a cut.

    At step 2 the reward is no reward; `right` tells of the last action, `late` is told from step 10 on.
    """

    observation_space = gymnasium.spaces.Box(0, 255, (16, 16, 3), np.uint8)
    action_space = gymnasium.spaces.Discrete(3, start=1)

    def __init__(self, trouble: str = ""):
        self.trouble = trouble
        self.frame = np.zeros((16, 16, 3), np.uint8)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.seed, self.t, self.rights = seed, 0, 0
        self.length = int(self.np_random.integers(2, LONGEST))
        return self._picture(), {"events": {"right": False}}

    def step(self, action):
        self.t += 1
        right = int(action) == self.state
        self.rights += right
        reward = {"nan": np.nan}.get(self.trouble, 1.0 if right else -0.25) if self.t != 2 else 1000.0
        if self.trouble == "raise":
            raise ZeroDivisionError("the signs fell down")
        if self.trouble == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        over, cut = self.t >= self.length, self.seed % 3 == 0
        events = {"right": right, **({"late": True} if self.t == 10 else {})}
        return self._picture(), reward, over and not cut, over and cut, self._info(events)

    def close(self):
        if self.trouble == "close":
            (Path(os.environ["SIGNS_CLOSED"]) / f"{os.getpid()}-{id(self)}").touch()

    def _info(self, events):
        return {"events": events, "reward_known": self.t != 2}

    def _picture(self):
        self.state = int(self.np_random.integers(1, 4))
        self.frame[:] = SHADE * self.state  # the same array every time, as some environments do
        if self.trouble == "grows":
            return np.full((16 + self.t, 16, 3), SHADE * self.state, np.uint8)
        return self.frame


class Counted(Signs):
    """What happened is told as counts."""

    def _info(self, events):
        return {"achievements": {"found": self.rights, "never": 0}, "reward_known": self.t != 2}


class Reader:
    """Right at all frames of an episode but the third of each four; in every fifth episode at none."""

    def __init__(self, count):
        self.t, self.episode, self.begun = np.zeros(count, int), np.full(count, -1), 0

    def reset(self, rows):
        self.t[rows] = 0
        self.episode[rows] = self.begun + np.arange(rows.sum())
        self.begun += rows.sum()

    def act(self, frames):
        assert frames.dtype == np.uint8 and frames.shape[1:] == (16, 16, 3)
        actions = [action(frame, t, episode) for frame, t, episode in zip(frames, self.t, self.episode, strict=True)]
        self.t += 1
        return actions


def action(frame, t, episode):
    state = int(frame[0, 0, 0]) // SHADE
    return state % 3 + 1 if t % 4 == 2 or episode % 5 == 4 else state


def plainly(seeds, longest=10**9):
    """(return, length, terminated, right, late) of Reader's episodes, one after the other."""
    env, found = Signs(), []
    for episode, seed in enumerate(seeds):
        frame, _ = env.reset(seed=int(seed))
        total, t, right, late, terminated, truncated = 0.0, 0, False, False, False, False
        while not (terminated or truncated or t + 1 >= longest):
            frame, reward, terminated, truncated, info = env.step(action(frame, t, episode))
            t += 1
            total += reward if info["reward_known"] else 0.0
            right, late = right or info["events"]["right"], late or t == 10
        found.append((total, t, terminated, right, late))
    return found


gymnasium.register("Signs-v0", Signs, disable_env_checker=True)
for name in ("raise", "nan", "grows", "die", "close"):
    gymnasium.register(f"Signs{name.title()}-v0", Signs, kwargs={"trouble": name}, disable_env_checker=True)
