"""LeRobot data sets, v3.0, v2.1 and v2.0, read from their parquet and MP4 files; LeRobot itself is not needed.

action[t] is what was taken AT frame t, next.reward[t] and next.done[t] came of it: they belong to frame t + 1 here.
What was done at an episode's last frame led to a frame that is not there; it stays in the episode's info alone.
Format: huggingface/lerobot, lerobot/datasets/lerobot_dataset.py and utils.py, of 0.4.4 (v3.0) and 0.3.3 (v2.1).
"""

import io
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from wakedream.data.actions import ActionSpec
from wakedream.data.film import frames_at
from wakedream.data.plain import plain_columns
from wakedream.data.readers.lerobot_index import Entry, read_index, read_info, read_tasks
from wakedream.data.readers.pictures import choose
from wakedream.data.readers.source import Play, Values, by_component, readable
from wakedream.data.readers.tables import to_array
from wakedream.errors import DataError, require

REWARD, DONE, TRUNCATED, SUCCESS = "next.reward", "next.done", "next.truncated", "next.success"
KEPT = ("timestamp", "frame_index", "episode_index", "index", "task_index", REWARD, DONE, TRUNCATED, SUCCESS)


class LeRobot:
    """A `Source`."""

    guessed = True
    endless = False

    def __init__(self, place: str, camera: str | None):
        self._parquet = require("pyarrow.parquet", "lerobot")
        self.root = _root(place)
        info = read_info(self.root)
        self._features: dict[str, Any] = info["features"]
        self._rate = float(info["fps"])
        cameras = [name for name, about in self._features.items() if about["dtype"] in ("video", "image")
                   and not (about.get("info") or {}).get("video.is_depth_map")]
        self.camera = choose(camera, cameras, str(self.root), ", ".join(self._features),
                             "A world model needs a camera's pictures")
        self._entries = {f"episode {entry.number}": entry for entry in read_index(self.root, info, self.camera)}
        self.episodes, self._tasks = list(self._entries), read_tasks(self.root)
        self._actions = [name for name, about in self._features.items()
                         if (name == "action" or name.startswith("action.")) and _is_number(about["dtype"])]
        self._cached: tuple[Path, Any] | None = None
        self.spec = self._seen()
        left = [name for name in self._features if name not in (*KEPT, *self._actions, self.camera)]
        self.remarks = [f"not kept: {', '.join(left)}"] if left else []

    def read(self, name: str, spec: ActionSpec) -> Play:
        entry = self._entries[name]
        with readable(str(entry.data)):
            rows = self._rows(entry)
            of = {key: self._array(rows, key) for key in (*KEPT, *self._actions) if key in rows.column_names}
        t, last = len(rows), len(rows) - 1
        actions = {key: values for name in self._actions for key, values in by_component(spec, name, of[name]).items()}
        success = {"success": of[SUCCESS][:-1]} if SUCCESS in of else {}
        columns = plain_columns(
            spec, t, {key: values[:-1] for key, values in actions.items()} if actions else None,
            rewards=of[REWARD][:-1] if REWARD in of else None, task=of.get("task_index", 0), events=success)
        done = of.get(DONE, np.zeros(t)).astype(bool) & ~of.get(TRUNCATED, np.zeros(t)).astype(bool)
        after = {key: np.asarray(of[key][last]).tolist()
                 for key in (*self._actions, REWARD, DONE, SUCCESS) if key in of}
        return Play(columns, t > 1 and bool(done[-2]), lambda: self._pictures(entry, of["timestamp"]),
                    {"tasks": {str(task): self._tasks.get(task, "") for task in np.unique(columns["task"]).tolist()},
                     "after_last": after})

    def _rows(self, entry: Entry) -> Any:
        """An episode's rows, without pictures. The last file's table is kept: the next episode is often in it."""
        if self._cached is None or self._cached[0] != entry.data:
            names = self._parquet.read_schema(entry.data).names
            kept = [name for name in names if name in KEPT or name in self._actions]
            self._cached = entry.data, self._parquet.read_table(entry.data, columns=kept, partitioning=None)
        table = self._cached[1]
        needed = ("episode_index", "timestamp", *self._actions)
        if lacking := [name for name in needed if name not in table.column_names]:
            raise DataError(f"{entry.data} has no {', '.join(lacking)}")
        rows = table.filter(to_array(table["episode_index"]) == entry.number)
        if len(rows) != entry.length or len(rows) == 0:
            raise DataError(f"{entry.data} has {len(rows)} rows of episode {entry.number}, meta says {entry.length}")
        return rows.sort_by("timestamp")

    def _array(self, rows: Any, name: str) -> np.ndarray:
        """(t) where a feature has one number, as LeRobot stores it, else (t, *shape)."""
        shape = tuple(self._features.get(name, {}).get("shape", ()))
        return to_array(rows[name], () if shape in ((), (1,)) else shape)

    def _seen(self) -> ActionSpec:
        """From the values of all files: what the data set's own statistics say may be older."""
        values = {name: Values(name, _labels(self._features[name])) for name in self._actions}
        for file in dict.fromkeys(entry.data for entry in self._entries.values()) if values else ():
            with suppress(DataError), readable(str(file)):  # told when its episodes' turn comes
                table = self._parquet.read_table(file, columns=list(values), partitioning=None)
                for name in values:
                    values[name].see(self._array(table, name))
        if any(not one.kind for one in values.values()):
            raise DataError(f"{self.root} has none of the files that hold its episodes: get data/ as well")
        return ActionSpec(tuple(component for one in values.values() for component in one.components()))

    def _pictures(self, entry: Entry, times: np.ndarray) -> Iterator[Any]:
        if entry.video is not None:
            yield from frames_at(entry.video, entry.start + times.astype(np.float64), self._rate)
            return
        dataset = require("pyarrow.dataset", "lerobot")
        with readable(str(entry.data)):
            rows = dataset.dataset(entry.data, format="parquet").scanner(
                columns=[self.camera], filter=dataset.field("episode_index") == entry.number, batch_size=64,
                batch_readahead=1, use_threads=False)
            for batch in rows.to_batches():
                for cell in batch.column(0).to_pylist():
                    image = self.root / cell["path"] if cell["bytes"] is None else io.BytesIO(cell["bytes"])
                    yield np.asarray(Image.open(image).convert("RGB"))


def _root(place: str) -> Path:
    """A folder, or the name of a data set where LeRobot keeps them."""
    cache = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface")) / "lerobot"
    named = Path(os.environ.get("HF_LEROBOT_HOME", cache)) / place
    return named if not Path(place).exists() and named.exists() else Path(place)


def _is_number(dtype: str) -> bool:
    return dtype.startswith(("float", "int", "uint", "bool"))


def _labels(feature: dict[str, Any]) -> tuple[str, ...]:
    """Names of the numbers, which LeRobot has as a list or as lists by group; () where they do not fit."""
    names = feature.get("names") or ()
    groups = names.values() if isinstance(names, dict) else [names]
    flat = [str(name) for group in groups for name in (group if isinstance(group, (list, tuple)) else [group])]
    return tuple(flat) if len(flat) == int(np.prod(feature["shape"])) else ()
