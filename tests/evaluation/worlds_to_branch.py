"""Small worlds of other people, registered with Gymnasium: a walker on a line that may hide where it is."""

import gymnasium
import numpy as np


class Hidden:
    """A place that nobody can copy, as other libraries hold their state."""

    def __init__(self):
        self.x = 8

    def __deepcopy__(self, memo):
        raise TypeError("lies in another library")


class Walker(gymnasium.Env):
    """Left, right or neither, by `pace`; a second walker goes its own way. The ends of the line are walls."""

    action_space = gymnasium.spaces.Discrete(3)
    observation_space = gymnasium.spaces.Box(0, 255, (16, 16, 3), np.uint8)

    def __init__(self, hidden=False, meanings=True, repeats=True, length=400):
        self.hidden, self.repeats, self.length = hidden, repeats, length
        if meanings:
            self.get_action_meanings = lambda: ["NOOP", "LEFT", "RIGHT"]

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.place = Hidden() if self.hidden else [8]
        self.t, self.other = 0, int(self.np_random.integers(16))
        return self._picture(), {}

    def step(self, action):
        x = min(15, max(0, self._x() + (0, -1, 1)[action]))
        if self.hidden:
            self.place.x = x
        else:
            self.place[0] = x
        drawn = self.np_random if self.repeats else np.random.default_rng()
        self.t, self.other = self.t + 1, int(drawn.integers(16))
        return self._picture(), 0.0, False, self.t >= self.length, {}

    def _x(self):
        return self.place.x if self.hidden else self.place[0]

    def _picture(self):
        picture = np.full((16, 16, 3), 30, np.uint8)
        picture[4:6, self._x()] = 250
        picture[12, self.other] = (self.t % 250, 90, 90)
        return picture


class Slider(Walker):
    action_space = gymnasium.spaces.Box(-1, 1, (1,))


def register() -> None:
    for name, options in {"Plain": {}, "Hidden": {"hidden": True}, "Nameless": {"meanings": False},
                          "Restless": {"repeats": False}, "Short": {"length": 20}}.items():
        gymnasium.register(f"Branch{name}-v0", Walker, kwargs=options, disable_env_checker=True)
    gymnasium.register("BranchSlider-v0", Slider, disable_env_checker=True)
