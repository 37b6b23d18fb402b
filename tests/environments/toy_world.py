"""Environments whose next frame is a known function of the action; recording processes import it too."""

import os
import signal
import time

import gymnasium
import numpy as np


class Painter(gymnasium.Env):
    """The frame that an action leads into is painted in 20 * action + step; four steps end it."""

    observation_space = gymnasium.spaces.Box(0, 255, (16, 16, 3), np.uint8)
    action_space = gymnasium.spaces.Discrete(5, start=1)

    def __init__(self, trouble: str = "", steps: int = 4):
        self.trouble, self.steps = trouble, steps
        self.frame = np.zeros((16, 16, 3), np.uint8)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if self.trouble == "uneven" and seed % 2:
            time.sleep(0.3)
        self.t = 0
        self.frame[:] = 255
        return self.frame, {"extras": {"hour": 0.0}}

    def step(self, action):
        self.t += 1
        if self.trouble == "raise" and self.t == 2:
            raise ZeroDivisionError("the toy broke")
        if self.trouble == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.trouble == "slow":
            time.sleep(0.01)
        self.frame[:] = 20 * int(action) + self.t  # the same array every time, as some environments do
        return self.frame, float(action), self.t == self.steps, False, {"extras": {"hour": float(self.t)}}


class Rendered(Painter):
    """Only `render` shows it, twice as wide as high."""

    observation_space = gymnasium.spaces.Box(-1, 1, (3,), np.float32)
    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012

    def __init__(self, render_mode=None):
        super().__init__()
        self.render_mode = render_mode

    def reset(self, **options):
        _, info = super().reset(**options)
        return np.zeros(3, np.float32), info

    def step(self, action):
        _, *rest = super().step(action)
        return np.zeros(3, np.float32), *rest

    def render(self):
        return np.repeat(np.repeat(self.frame, 2, 0), 4, 1)


class Keyed(Painter):
    """A picture among other things, none after the end."""

    observation_space = gymnasium.spaces.Dict({"health": gymnasium.spaces.Box(0, 9, (2,), np.float32),
                                               "view": gymnasium.spaces.Box(0, 255, (16, 16, 3), np.uint8)})

    def _dict(self, frame):
        return {"health": np.zeros(2, np.float32), "view": frame}

    def reset(self, **options):
        frame, info = super().reset(**options)
        return self._dict(frame), info

    def step(self, action):
        frame, reward, terminated, *rest = super().step(action)
        return self._dict(frame * 0 if terminated else frame), reward, terminated, *rest


class Eventful(Painter):
    """What happens is told by name, and at step 2 the reward is not known; `wrong` tells what cannot be kept."""

    def __init__(self, wrong: bool = False):
        super().__init__()
        self.wrong = wrong

    def step(self, action):
        *rest, info = super().step(action)
        events = {"even": self.t % 2 == 0, **({"last": np.bool_(True)} if self.t == self.steps else {})}
        info |= {"events": {"count": 3} if self.wrong else events, "reward_known": "no" if self.wrong else self.t != 2}
        return *rest, info


for name, options in {"Raising": {"trouble": "raise"}, "Dying": {"trouble": "die"}, "Painter": {},
                      "Uneven": {"trouble": "uneven"},
                      "Slow": {"trouble": "slow", "steps": 20}}.items():
    gymnasium.register(f"Toy{name}-v0", Painter, kwargs=options)
gymnasium.register("ToyRendered-v0", Rendered)
gymnasium.register("ToyKeyed-v0", Keyed)
gymnasium.register("ToyEventful-v0", Eventful)
gymnasium.register("ToyWrong-v0", Eventful, kwargs={"wrong": True})
