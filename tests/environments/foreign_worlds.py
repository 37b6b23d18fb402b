"""Environments as others write them, each odd in one way; recording processes import it too."""

import multiprocessing
import sys
import time

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete

SHOWN = 100  # what `render` paints before the first step


class World(gymnasium.Env):
    """Observed as two numbers; `render` paints all of it in SHOWN + step; four steps end it."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012
    observation_space, action_space = Box(-1, 1, (2,), np.float32), Discrete(3)

    def __init__(self, render_mode=None):
        self.render_mode, self.t, self.resets = render_mode, 0, 0

    def observed(self):
        return np.zeros(2, np.float32)

    def render(self):
        return np.full((16, 16, 3), SHOWN + self.t, np.uint8)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.resets = 0, self.resets + 1
        return self.observed(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        self.t += 1
        return self.observed(), 1.0, self.t == 4, False, {}


def seen(space, observe):
    """A World whose observation is `observe(step)`, of `space`."""
    return type("Seen", (World,), {"observation_space": space, "observed": lambda self: observe(self.t)})


def pixels(*shape):
    return Box(0, 255, shape, np.uint8)


def moments(t):
    """Four grey pictures, the newest last."""
    return np.stack([np.full((32, 32), 60 * i + t, np.uint8) for i in range(4)])


def stacked(number):
    def make(render_mode=None):
        grey = seen(pixels(32, 32), lambda t: np.full((32, 32), 30 * t, np.uint8))(render_mode)
        return gymnasium.wrappers.FrameStackObservation(grey, number)
    make.metadata = World.metadata
    return make


def board(t):
    return np.full((16, 16, 3), 1 + t, np.uint8)


def camera(t, shape=(32, 32, 3)):
    return np.full(shape, SHOWN + t, np.uint8)


def wall(t):
    return np.full((32, 32), 200, np.uint8)


class Numpy(World):
    """All that it gives are numpy's scalars and arrays of one; two of its extras cannot be kept."""

    def step(self, action):
        observation, reward, terminated, truncated, _ = super().step(action)
        extras = {"health": np.float32(self.t / 4), "coins": np.int64(self.t), "heat": np.array([self.t + 0.5]),
                  "place": "cave", "map": np.zeros(2)}
        info = {"extras": extras, "events": {"hurt": np.array([self.t == 2])}, "reward_known": np.bool_(self.t != 3)}
        return observation, np.array([reward]), np.array([terminated]), np.array([truncated]), info


class Rewarding(World):
    def __init__(self, reward, render_mode=None):
        super().__init__(render_mode)
        self.reward = reward

    def step(self, action):
        observation, _, *rest = super().step(action)
        return observation, self.reward, *rest


class Exiting(World):
    """Gives up in its second episode; the first reset is a look at what it is."""

    def step(self, action):
        if self.resets == 3:
            sys.exit("the licence has ended")
        return super().step(action)


def answer(queue):
    queue.put(SHOWN)


class Served(World):
    """What it shows is made by a process of its own."""

    def __init__(self, render_mode=None):
        super().__init__(render_mode)
        context = multiprocessing.get_context("spawn")
        queue = context.Queue()
        server = context.Process(target=answer, args=(queue,))
        server.start()
        self.shown = queue.get(timeout=60)
        server.join()

    def render(self):
        return np.full((16, 16, 3), self.shown + self.t, np.uint8)


class Converted(World):
    def __init__(self, convert, render_mode=None):
        super().__init__(render_mode)
        self.convert = convert

    def render(self):
        return self.convert(super().render())


class Growing(World):
    """Higher in every second episode, or after every second step."""

    def __init__(self, within, render_mode=None):
        super().__init__(render_mode)
        self.within = within

    def render(self):
        return np.full((16 + 2 * ((self.t if self.within else self.resets) % 2), 16, 3), SHOWN + self.t, np.uint8)


class Clearing:
    def __del__(self):
        time.sleep(0.3)  # whatever is raised here Python swallows, and prints


class Failing(World):
    """Cannot be made. The first process to find out has the others stopped, while they still clear up."""

    def __init__(self, render_mode=None):
        Clearing()
        raise OSError("no licence")


class Counting(World):
    """Choices from 1, and from -2 and 5."""

    action_space = Dict(one=Discrete(3, start=1), two=MultiDiscrete([2, 3], start=[-2, 5]))


KINDS = {
    "Own": World,
    "StackFirst": seen(pixels(4, 32, 32), moments), "StackLast": seen(pixels(32, 32, 4), lambda t: moments(t).T),
    "StackWrapped": stacked(3), "StackWrappedOfFour": stacked(4),
    "Board": seen(pixels(16, 16, 3), board),
    "BoardOfBounds": seen(Box(0, 99, (16, 16, 3), np.uint8), lambda t: 18 * board(t)),
    "Depth": seen(Dict(depth=pixels(32, 32)), lambda t: {"depth": wall(t)}),
    "DepthBesideColour": seen(Dict(a_map=pixels(32, 32), depth=pixels(32, 32, 3), eye=pixels(32, 32, 3)),
                              lambda t: {"a_map": wall(t), "depth": camera(9), "eye": camera(t)}),
    "DepthBesideGrey": seen(Dict(depth_image=pixels(32, 32), eye=pixels(32, 32)),
                            lambda t: {"depth_image": wall(t), "eye": camera(t, (32, 32))}),
    "Numpy": Numpy, "Exiting": Exiting, "Served": Served, "Failing": Failing, "Counting": Counting,
    "UpThere": type("UpThere", (World,), {"action_space": Dict({"../x": Discrete(2)})}),
    "Up": type("Up", (World,), {"action_space": Dict({"..": Discrete(2)})}),
}
for name, kind in KINDS.items():
    gymnasium.register(f"{name}-v0", kind)
for name, reward in {"NotANumber": float("nan"), "TwoRewards": np.zeros(2), "NoReward": None}.items():
    gymnasium.register(f"{name}-v0", Rewarding, kwargs={"reward": reward})
for name, convert in {"Int": np.int64, "Float": np.float64, "Unit": lambda picture: (picture / 255).astype(np.float32),
                      "NaN": lambda picture: np.full(picture.shape, np.nan), "Below": lambda picture: picture - 200.0,
                      "Large": lambda picture: picture.astype(np.int32) * 4, "Nothing": lambda picture: None,
                      "Flat": np.ravel}.items():
    converted = {"convert": convert if not isinstance(convert, type) else (lambda p, kind=convert: p.astype(kind))}
    gymnasium.register(f"Picture{name}-v0", Converted, kwargs=converted)
for name, within in {"ByEpisode": False, "ByStep": True}.items():
    gymnasium.register(f"Growing{name}-v0", Growing, kwargs={"within": within})
