"""Any environment that Gymnasium knows by an id, seen through pictures."""

import importlib
from typing import Any

import gymnasium
import numpy as np

from wakedream.environments.forking import WAYS, take_over
from wakedream.environments.pixels import is_picture, to_rgb
from wakedream.errors import ConfigError, DataError, MissingExtraError

KEYS = ("screen", "rgb", "image", "pixels", "pov")  # of a Dict observation, the first that is a picture


def make_by_id(name: str, size: int | None) -> "PictureEnv":
    """`name` as gymnasium.make takes it; `module:Id-v0` imports the module that registers the id first."""
    module, _, _ = name.rpartition(":")
    if module:
        _import(module, name)
    env = _make(name)
    source = _picture_key(env.observation_space)
    if source is None:
        env.close()
        env = _make(name, render_mode="rgb_array")
    return PictureEnv(env, source, size)


class PictureEnv(gymnasium.Wrapper):
    """Observations become uint8 (h w 3): the observation, its picture at a key, or what `render()` gives.

    source  "" (the observation itself), the key of a Dict observation, or None (render)
    """

    def __init__(self, env: gymnasium.Env, source: str | None, size: int | None):
        super().__init__(env)
        self.source, self.size = source, size
        self.frame = np.zeros((16, 16, 3), np.uint8)
        self.way, self.begun, self.taken = WAYS[0], dict[str, Any](), list[Any]()

    def reset(self, **options: Any):
        observation, info = self.env.reset(**options)
        self.begun, self.taken = options, []
        self.frame = self._picture(observation)
        return self.frame, _offered(info)

    def step(self, action: Any):
        observation, reward, terminated, truncated, info = self.env.step(action)
        self.taken.append(action)
        frame = self._picture(observation)
        # ViZDoom has no picture after the end and gives zeros: the last one stands
        if frame.any() or not (terminated or truncated):
            self.frame = frame
        return self.frame, float(reward), bool(terminated), bool(truncated), _offered(info)

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
            picture = self.env.render()
            if not isinstance(picture, np.ndarray):
                raise DataError(f"render() of {self.env} gave {type(picture).__name__}, expected an array "
                                "(h w 3): the environment must know render_mode='rgb_array'")
        else:
            picture = observation[self.source] if self.source else observation
        return to_rgb(np.asarray(picture), self.size)


def _offered(info: dict[str, Any]) -> dict[str, Any]:
    """Only what an environment offers to be kept: numbers and events by name, and whether the reward is known."""
    kinds = {"extras": (int, float), "events": (bool, np.bool_)}
    offered = {key: info[key] for key, kind in kinds.items() if isinstance(info.get(key), dict)
               and all(isinstance(value, kind) for value in info[key].values())}
    return offered | {key: info[key] for key in ("reward_known",) if isinstance(info.get(key), (bool, np.bool_))}


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
    if isinstance(space, gymnasium.spaces.Dict):
        keys = [key for key, inner in space.spaces.items() if _picture_key(inner) == ""]
        return next((key for key in (*KEYS, *keys) if key in keys), None)
    return "" if isinstance(space, gymnasium.spaces.Box) and is_picture(space.shape, space.dtype) else None
