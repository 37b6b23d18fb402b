"""Pictures of a Minari data set that has none: its environment plays the episodes again, and is watched closely."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from wakedream.data.readers.spaces import Dict, Discrete, Tuple
from wakedream.errors import DataError, require

Way = tuple[str | int, ...]


def make_env(spec: str) -> Any:
    """The environment of Minari's `env_spec`, which renders; DataError when it cannot be made."""
    gymnasium = require("gymnasium", "gym")
    about = json.loads(spec)
    # as Minari drops them: what Gymnasium before 1.0 wrote and later ones do not know
    known = {name: value for name, value in about.items() if name not in ("apply_api_compatibility", "autoreset")}
    with _running(f"the environment {about.get('id')} cannot be made to render"):
        made = gymnasium.envs.registration.EnvSpec.from_json(json.dumps(known))
        return gymnasium.make(made, render_mode="rgb_array", disable_env_checker=True)


def play_again(env: Any, seed: int | None, actions: list[Any],
               seen: list[tuple[Way, np.ndarray]]) -> Iterator[np.ndarray]:
    """A picture for each of the len(actions) + 1 observations; `seen`: those of the data set, by their way.

    DataError as soon as the environment shows something else than is stored: its pictures would be of another episode.
    """
    if seed is None:
        raise DataError("it has no seed, without which its environment cannot play it again")
    for t in range(len(actions) + 1):
        with _running(f"its environment failed at frame {t}"):
            observation = env.step(actions[t - 1])[0] if t else env.reset(seed=seed)[0]
            picture = np.array(env.render())
        for way, stored in seen:
            now = observation
            for name in way:
                now = now[name]
            if not np.allclose(np.asarray(now), stored[t], rtol=1e-3, atol=1e-4, equal_nan=True):
                raise DataError(f"its environment, played again, shows another observation {'/'.join(map(str, way))} "
                                f"at frame {t}: another version, or chance that its seed does not decide")
        yield picture


@contextmanager
def _running(what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # an environment may raise anything
        raise DataError(f"{what} ({type(error).__name__}: {error}): install what it needs, or choose pictures that are "
                        "there") from error


def assembled(space: Any, arrays: dict[Way, np.ndarray], t: int, way: Way = ()) -> Any:
    """The action of step t as the environment takes it; `arrays`: by the way to each leaf of the space."""
    if isinstance(space, Dict):
        return {name: assembled(inner, arrays, t, (*way, name)) for name, inner in space.spaces.items()}
    if isinstance(space, Tuple):
        return tuple(assembled(inner, arrays, t, (*way, i)) for i, inner in enumerate(space.spaces))
    value = arrays[way][t]
    return int(value) if isinstance(space, Discrete) else value
