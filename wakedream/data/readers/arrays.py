"""Plain HDF5 and npz files of a stated layout (docs/data.md): `frames`, and beside them what `plain_columns` takes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wakedream.data.actions import ActionSpec
from wakedream.data.plain import plain_columns
from wakedream.data.readers.pictures import choose
from wakedream.data.readers.source import Play, Values, by_component, readable
from wakedream.errors import DataError, require

FRAMES = "frames"
ONE = ("has_action", "rewards", "has_reward", "task")  # by the names that plain_columns has
SEVERAL = ("actions", "events", "extras")  # NAME, or NAME/PART for each part
ENDS = ("is_first", "terminated", "truncated")
PIECE = 64  # frames that are read at once


@dataclass(frozen=True)
class Stretch:
    """Frames start to stop - 1 of the arrays below a group of a file: one episode."""

    file: Path
    group: str
    start: int
    stop: int


class _Arrays:
    """A `Source` of files whose arrays have names with slashes."""

    guessed = True
    endless = False
    suffixes: tuple[str, ...]
    in_pieces = True  # whether a part of an array can be read alone

    def __init__(self, place: str, camera: str | None):
        path = Path(place)
        files = sorted(file for file in path.rglob("*") if file.suffix in self.suffixes) if path.is_dir() else [path]
        if not files or not all(file.is_file() for file in files):
            raise DataError(f"there are no files at {place}: expected {' or '.join(self.suffixes)}, or a folder of "
                            "them")
        self._frames = camera or FRAMES
        self._unpacked: tuple[tuple[Path, str], Any] | None = None
        self._episodes: dict[str, Stretch | DataError] = {}
        values: dict[str, Values] = {}
        self.remarks: list[str] = []
        for file in files:
            name = "" if path.is_file() else str(file.relative_to(path))
            try:
                with readable(str(file)):
                    self._look(file, name, values)
            except DataError as error:  # told when its turn comes
                self._episodes[name or file.name] = error
        self.episodes = list(self._episodes)
        self.spec = ActionSpec(tuple(component for one in values.values() for component in one.components()))

    def _arrays(self, file: Path) -> Mapping[str, Any]:
        """Every array of a file by its whole name."""
        raise NotImplementedError

    def _look(self, file: Path, name: str, values: dict[str, Values]) -> None:
        """Note the file's episodes, and the actions that they have."""
        arrays = self._arrays(file)
        groups = [whole.removesuffix(self._frames) for whole in arrays
                  if whole == self._frames or whole.endswith("/" + self._frames)]
        if not groups:
            choose(None, (), str(file), ", ".join(arrays) or "nothing",
                   f"Expected the array {self._frames}, uint8 (t h w c); --camera gives another name")
        for group in groups:
            within = _within(arrays, group)
            for key, array in within.items():
                if key.split("/")[0] == "actions":
                    part = key.removeprefix("actions/") if "/" in key else "action"
                    values.setdefault(part, Values(part)).see(np.asarray(array))
            left = [key for key in within
                    if key not in (self._frames, *ONE, *ENDS) and key.split("/")[0] not in SEVERAL]
            self.remarks += [f"not kept: {', '.join(left)}"] if left else []
            t = len(within[self._frames])
            if self._frames != FRAMES and any(len(within[key]) == t for key in within if key.startswith("actions")):
                self.remarks.append("entry i of the actions is taken to have led into frame i; if it was done at frame "
                                    "i, leave out the last entry of each episode")
            starts = np.flatnonzero(np.asarray(within["is_first"])).tolist() if "is_first" in within else [0]
            if not starts or starts[0] != 0:
                raise DataError(f"{group}is_first is not True at the first frame")
            for start, stop in zip(starts, [*starts[1:], t], strict=True):
                part = f", frames {start} to {stop - 1}" if len(starts) > 1 else ""
                shown = " ".join(filter(None, (name, group.rstrip("/")))) or file.name
                self._episodes[shown + part] = Stretch(file, group, start, stop)

    def read(self, name: str, spec: ActionSpec) -> Play:
        one = self._episodes[name]
        if isinstance(one, DataError):
            raise one
        t = one.stop - one.start
        with readable(name):
            within = _within(self._arrays(one.file), one.group)
            whole = len(within[self._frames])
            shape, dtype = within[self._frames].shape, within[self._frames].dtype
            if dtype != np.uint8 or len(shape) not in (3, 4):
                raise DataError(f"{self._frames} are {dtype} {shape}, expected uint8 (t h w c), 0 to 255")
            of = {key: _cut(key, array, one, whole) for key, array in within.items()
                  if key in (*ONE, "terminated") or key.split("/")[0] in SEVERAL}
        groups: dict[str, dict[str, Any]] = {group: {} for group in SEVERAL}
        for key in [key for key in of if key.split("/")[0] in SEVERAL]:
            group, _, part = key.partition("/")
            groups[group] |= by_component(spec, part or "action", of[key]) if group == "actions" else {part: of[key]}
        actions = groups.pop("actions") or None
        one_each: dict[str, Any] = {key: of[key] for key in ONE if key in of}
        columns = plain_columns(spec, t, actions, **one_each, **groups)
        return Play(columns, _ended(of.get("terminated"), t), lambda: self._pictures(one))

    def _pictures(self, one: Stretch) -> Iterator[Any]:
        with readable(str(one.file)):
            if self._unpacked is None or self._unpacked[0] != (one.file, one.group):
                found = _within(self._arrays(one.file), one.group)[self._frames]
                self._unpacked = (one.file, one.group), found if self.in_pieces else np.asarray(found)
            frames = self._unpacked[1]
            for first in range(one.start, one.stop, PIECE):
                yield from frames[first:min(first + PIECE, one.stop)]


class Hdf5(_Arrays):
    suffixes = (".hdf5", ".h5")

    def _arrays(self, file: Path) -> Mapping[str, Any]:
        opened = require("h5py", "hdf5").File(file, "r")
        found: dict[str, Any] = {}
        opened.visititems(lambda name, entry: found.update({name: entry} if hasattr(entry, "shape") else {}))
        return found


class Npz(_Arrays):
    suffixes = (".npz",)
    in_pieces = False

    def _arrays(self, file: Path) -> Mapping[str, Any]:
        opened = np.load(file, allow_pickle=False)
        if not isinstance(opened, np.lib.npyio.NpzFile):
            raise DataError(f"{file} holds one array alone, expected an npz file: "
                            "np.savez_compressed(FILE, frames=...)")
        return {name: _Member(opened, name) for name in opened.files}


class _Member:
    """An array of an npz file: what it is, known from its first bytes; its values, only when asked for."""

    def __init__(self, archive: Any, name: str):
        self._archive, self._name = archive, name
        with archive.zip.open(f"{name}.npy") as file:
            header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            self.shape, _, self.dtype = header[np.lib.format.read_magic(file)](file)

    def __len__(self) -> int:
        return int(self.shape[0])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self._archive[self._name], dtype)


def _within(arrays: Mapping[str, Any], group: str) -> dict[str, Any]:
    return {name.removeprefix(group): array for name, array in arrays.items() if name.startswith(group)}


def _cut(key: str, array: Any, one: Stretch, whole: int) -> np.ndarray:
    """An episode's part of an array over all frames; one value, or one between each two frames, is that of a whole."""
    found = np.asarray(array)
    if found.ndim and len(found) == whole:
        return found[one.start:one.stop]
    if one.stop - one.start < whole and (found.ndim or key == "terminated"):
        raise DataError(f"{one.group}{key}: an array {found.shape}, expected an entry for each of the {whole} frames, "
                        "since they are several episodes (is_first)")
    return found


def _ended(terminated: np.ndarray | None, t: int) -> bool:
    if terminated is None:
        return False
    ends = np.atleast_1d(terminated).astype(bool)
    if ends[:-1].any():
        raise DataError(f"terminated after {int(np.argmax(ends)) + 1} of {t} frames, and goes on: expected is_first to "
                        "say where episodes begin")
    return bool(ends[-1])
