"""Minari data sets, by name or path. An episode has T + 1 observations and T actions: action i led from i to i + 1."""

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from wakedream.data.actions import ActionSpec
from wakedream.data.plain import plain_columns
from wakedream.data.readers.minari_render import assembled, make_env, play_again
from wakedream.data.readers.minari_storage import open_storage, picture_spaces
from wakedream.data.readers.pictures import choose, is_picture
from wakedream.data.readers.source import Play, readable
from wakedream.data.readers.spaces import Box, Discrete, MultiDiscrete, leaves, parse_space, shown
from wakedream.errors import DataError

METADATA = "metadata.json"
RENDER = "render"  # the camera that is the environment itself


class Minari:
    """A `Source`."""

    guessed = False
    endless = False

    def __init__(self, place: str, camera: str | None):
        self.folder = _folder(place)
        file = self.folder / METADATA
        with readable(str(file)):
            about = json.loads(file.read_text(encoding="utf-8"))
            actions, observations = (parse_space(about[name]) for name in ("action_space", "observation_space"))
            format = str(about["data_format"])
        self.spec = ActionSpec.from_space(actions)
        self._space, self._leaves = actions, list(leaves(actions))
        self._storage = open_storage(self.folder, format)
        with readable(str(self.folder)):
            numbers = self._storage.episodes()
            if not numbers:
                raise DataError(f"{self.folder} has no episodes")
            self._seen = seen = list(leaves(observations))
            cameras = picture_spaces(seen) | self._storage.other_pictures(numbers[0])
        names = {"/".join(map(str, way)): way for way in cameras}
        there = "observations " + ", ".join(f"{'/'.join(map(str, way)) or 'alone'}: {shown(space)}"
                                            for way, space in seen)
        self._env = make_env(about["env_spec"]) if camera == RENDER and about.get("env_spec") else None
        chosen = RENDER if self._env else choose(camera, names, f"the Minari data set {place}", there, _remedy(about))
        self._way, self._shape = (names[chosen], cameras[names[chosen]]) if not self._env else ((), ())
        self._numbers = {f"episode {number}": number for number in numbers}
        self.episodes = list(self._numbers)
        left = [name for name in ("/".join(("observations", *map(str, way))) for way, _ in seen) if name != chosen]
        self.remarks = [f"not kept: {', '.join(left)}"] if left else []

    def read(self, name: str, spec: ActionSpec) -> Play:
        number, storage = self._numbers[name], self._storage
        with readable(f"{name} of {self.folder}"):
            steps = storage.steps(number)
            frames, pictures = (self._rendered(number) if self._env else
                                storage.pictures(number, self._way, self._shape))
            if frames != steps + 1:
                raise DataError(f"{frames} observations and {steps} steps: expected one observation more than steps")
            rewards, terminations = (storage.array(number, (what,), None)[:steps]
                                     for what in ("rewards", "terminations"))
            actions = self._actions(number, spec)
            seed = storage.seed(number)
        if terminations[:-1].any():
            self.remarks.append("episodes that go on after a termination: only one at the last frame is kept")
        columns = plain_columns(spec, frames, actions if spec.components else None, rewards=rewards)
        return Play(columns, bool(steps and terminations[-1]), lambda: self._pictures(name, pictures),
                    {} if seed is None else {"seed": seed})

    def _rendered(self, number: int) -> tuple[int, Iterator[np.ndarray]]:
        storage = self._storage
        arrays = {way: storage.array(number, ("actions", *way), space) for way, space in self._leaves}
        seen = [(way, storage.array(number, ("observations", *way), space, last=True)) for way, space in self._seen
                if isinstance(space, (Box, Discrete)) and not is_picture(getattr(space, "shape", ()), np.uint8)]
        steps = storage.steps(number)
        actions = [assembled(self._space, arrays, t) for t in range(steps)]
        return steps + 1, play_again(self._env, storage.seed(number), actions, seen)

    def _actions(self, number: int, spec: ActionSpec) -> dict[str, np.ndarray]:
        """By component, named as `ActionSpec.from_space` names them."""
        actions: dict[str, np.ndarray] = {}
        for way, space in self._leaves:
            name = "/".join(map(str, way)) or "action"
            array = self._storage.array(number, ("actions", *way), space)
            if isinstance(space, MultiDiscrete):
                columns = array.reshape(len(array), -1)
                actions |= {f"{name}/{i}": columns[:, i] for i in range(columns.shape[1])}
            else:
                actions[name] = array
        return actions

    def _pictures(self, name: str, pictures: Iterator[Any]) -> Iterator[Any]:
        with readable(f"{name} of {self.folder}"):
            for picture in pictures:
                yield np.asarray(Image.open(io.BytesIO(picture))) if isinstance(picture, bytes) else picture


def _folder(place: str) -> Path:
    """Where the data lie: a path, or a name below Minari's own folder."""
    own = Path(os.environ.get("MINARI_DATASETS_PATH") or Path.home() / ".minari" / "datasets")
    for root in (Path(place), own / place):
        for folder in (root / "data", root):
            if (folder / METADATA).is_file():
                return folder
    old = [root for root in (Path(place), own / place) if (root / "data" / "main_data.hdf5").is_file()]
    if old:
        raise DataError(f"{old[0]} was written by a Minari before 0.5 (no {METADATA}): download it again")
    found = own.rglob(f"data/{METADATA}") if own.exists() else ()
    here = sorted(str(path.parent.parent.relative_to(own)) for path in found)
    raise DataError(f"there is no Minari data set {place}, neither as a path nor in {own} (there: "
                    f"{', '.join(here[:20]) or 'none'}): `minari download {place}` gets one")


def _remedy(about: dict[str, Any]) -> str:
    env = json.loads(about["env_spec"]).get("id") if about.get("env_spec") else None
    return (f"A world model needs pictures: --camera {RENDER} lets its environment play it again and render, if that "
            "is installed; or collect it again with gymnasium.wrappers.AddRenderObservation around the environment; or "
            f"play anew with `wakedream record {env or 'ENV'} --out DATA --frames N`")
