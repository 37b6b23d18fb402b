"""Any environment that Gymnasium knows by an id, seen through pictures."""

import importlib
from typing import Any

import gymnasium
import numpy as np

from wakedream.data.readers.pictures import is_picture
from wakedream.environments.forking import take_over
from wakedream.environments.offered import offered, single
from wakedream.environments.pixels import AnySize, as_bytes, both, is_board, to_rgb
from wakedream.errors import ConfigError, MissingExtraError

KEYS = ("screen", "rgb", "image", "pixels", "pov")  # of a Dict observation, the first that is a picture
OTHERS = ("depth", "segment", "mask", "label", "semantic", "normal", "flow")  # of keys: numbers per pixel, no picture


def make_by_id(name: str, size: AnySize) -> "PictureEnv":
    """`name` as gymnasium.make takes it; `module:Id-v0` imports the module that registers the id first."""
    module, _, _ = name.rpartition(":")
    if module:
        _import(module, name)
    env = _make(name)
    source = None if _stacked(env) else _picture_key(env.observation_space)
    if source is not None and is_board(np.asarray(_at(source, env.reset(seed=0)[0]))):
        source = None
    if source is None:
        env.close()
        env = _make(name, render_mode="rgb_array")
    return PictureEnv(env, source, size)


class PictureEnv(gymnasium.Wrapper):
    """Observations become uint8 (h w 3): the observation, its picture at a key, or what `render()` gives.

    source  "" (the observation itself), the key of a Dict observation, or None (render)
    """

    def __init__(self, env: gymnasium.Env, source: str | None, size: AnySize):
        super().__init__(env)
        self.source, self.size = source, both(size)
        self.frame = np.zeros((16, 16, 3), np.uint8)
        self.way, self.begun, self.taken = "copy", dict[str, Any](), list[Any]()

    def reset(self, **options: Any):
        observation, info = self.env.reset(**options)
        self.begun, self.taken = options, []
        self.frame = self._picture(observation)
        return self.frame, offered(info)

    def step(self, action: Any):
        observation, reward, terminated, truncated, info = self.env.step(action)
        self.taken.append(action)
        terminated, truncated = (bool(single(end, "an end")) for end in (terminated, truncated))
        frame = self._picture(observation)
        # ViZDoom has no picture after the end and gives zeros: the last one stands
        if frame.any() or not (terminated or truncated):
            self.frame = frame
        return self.frame, float(single(reward, "a reward")), terminated, truncated, offered(info)

    def become(self, other: "PictureEnv") -> None:
        """Go on from where `other`, made alike, is now: by its copied state, or (`way` is "replay") by what was played
        there since its reset, which repeats if it was given a seed."""
        if self.way == "copy":
            take_over(self.env, other.env)
            self.frame, self.begun, self.taken = other.frame, other.begun, list(other.taken)
            return
        self.reset(**other.begun)
        for action in list(other.taken):
            self.step(action)

    def _picture(self, observation: Any) -> np.ndarray:
        if self.source is None:
            whose = f"render() of {self.env}, whose observations ({self.env.observation_space}) are no pictures,"
            return to_rgb(as_bytes(self.env.render(), whose), self.size)
        return to_rgb(as_bytes(np.asarray(_at(self.source, observation)), f"an observation of {self.env}"), self.size)


def _import(module: str, name: str) -> None:
    try:
        importlib.import_module(module)
    except ImportError as error:
        extra = module.split(".")[0]
        hint = "pip install 'wakedream[vizdoom]'" if extra == "vizdoom" else f"install what brings '{extra}'"
        raise MissingExtraError(f"{name} needs the module '{module}', which cannot be imported ({error}): "
                                f"{hint}") from error


def _make(name: str, **options: Any) -> gymnasium.Env:
    try:
        return gymnasium.make(name, disable_env_checker=True, **options)
    except gymnasium.error.DependencyNotInstalled as error:
        raise MissingExtraError(f"the environment {name} lacks a package: {error}") from error
    except (gymnasium.error.Error, ImportError) as error:
        raise ConfigError(f"Gymnasium cannot make the environment '{name}': {error}") from error


def _picture_key(space: gymnasium.Space) -> str | None:
    """"" where the observation is a picture, the key of a Dict's picture, or None."""
    if isinstance(space, gymnasium.spaces.Dict):
        keys = [key for key, inner in space.spaces.items() if _picture_key(inner) == "" and not _of_something(key)]
        keys.sort(key=lambda key: 3 not in (space.spaces[key].shape or ()))  # colours first
        return next((key for key in (*KEYS, *keys) if key in keys), None)
    if not isinstance(space, gymnasium.spaces.Box) or not is_picture(space.shape, space.dtype):
        return None
    return "" if (space.low == 0).all() and (space.high == 255).all() else None  # smaller bounds are those of a board


def _of_something(key: Any) -> bool:
    """Whether what stands at the key has a picture's shape and says something else of each pixel."""
    return not isinstance(key, str) or any(word in key.lower() for word in OTHERS)


def _stacked(env: gymnasium.Env) -> bool:
    """Whether a wrapper puts several moments side by side: three grey ones look like a picture's colours."""
    while isinstance(env, gymnasium.Wrapper):
        if "stack" in type(env).__name__.lower():
            return True
        env = env.env
    return False


def _at(source: str, observation: Any) -> Any:
    return observation[source] if source else observation
