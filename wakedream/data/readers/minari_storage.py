"""How Minari stores episodes: HDF5, Arrow or Parquet; pictures as arrays or each as a JPEG file.

Format: Farama-Foundation/Minari 0.5.4, minari/dataset/_storages/. Read without Minari, which would bring Gymnasium, ask
for the environment where a space is not written down, and unpack all pictures of an episode at once.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from wakedream.data.readers.pictures import is_picture
from wakedream.data.readers.source import readable
from wakedream.data.readers.spaces import Box
from wakedream.data.readers.tables import to_array
from wakedream.errors import DataError, require

Way = tuple[str | int, ...]  # to an array: ("observations", "pixels"), ("actions", 0)
PIECE = 64  # pictures that are read at once


class Hdf5Storage:
    """One file, a group for each episode."""

    def __init__(self, folder: Path, format: str):
        self.file = folder / "main_data.hdf5"
        h5py = require("h5py", "minari")
        with readable(str(self.file)):
            self._groups = h5py.File(self.file, "r")

    def episodes(self) -> list[int]:
        return sorted(int(name.removeprefix("episode_")) for name in self._groups if name.startswith("episode_"))

    def seed(self, episode: int) -> int | None:
        seed = self._groups[f"episode_{episode}"].attrs.get("seed")
        return None if seed is None else int(seed)

    def array(self, episode: int, way: Way, space: Any, last: bool = False) -> np.ndarray:
        return np.asarray(self._dataset(episode, way)[()])

    def steps(self, episode: int) -> int:
        return len(self._dataset(episode, ("rewards",)))

    def pictures(self, episode: int, way: Way, shape: tuple[int, ...]) -> tuple[int, Iterator[Any]]:
        """How many, and each as an array or as the bytes of a JPEG file."""
        dataset = self._dataset(episode, way)
        return len(dataset), (picture if np.ndim(picture) == len(shape) else np.asarray(picture, np.uint8).tobytes()
                              for first in range(0, len(dataset), PIECE) for picture in dataset[first:first + PIECE])

    def other_pictures(self, episode: int) -> dict[Way, tuple[int, ...]]:
        """Those that stand in the infos, where an environment's rendered pictures may be."""
        found: dict[Way, tuple[int, ...]] = {}
        group = self._groups[f"episode_{episode}"]
        if "infos" in group:
            def look(name: str, entry: Any) -> None:
                if hasattr(entry, "shape") and is_picture(entry.shape[1:], entry.dtype):
                    found["infos", *name.split("/")] = entry.shape[1:]

            group["infos"].visititems(look)
        return found

    def _dataset(self, episode: int, way: Way) -> Any:
        names = [name if isinstance(name, str) else f"_index_{name}" for name in way]
        return self._groups["/".join([f"episode_{episode}", *names])]


class ArrowStorage:
    """A folder of Arrow or Parquet files for each episode. Rows are observations; the last has no action."""

    def __init__(self, folder: Path, format: str):
        self.folder, self.format = folder, format
        self._dataset = require("pyarrow.dataset", "minari")

    def episodes(self) -> list[int]:
        return sorted(int(path.name) for path in self.folder.iterdir() if path.is_dir() and path.name.isdigit())

    def seed(self, episode: int) -> int | None:
        about = self.folder / str(episode) / "metadata.json"
        seed = json.loads(about.read_text(encoding="utf-8")).get("seed") if about.exists() else None
        return None if seed is None else int(seed)

    def array(self, episode: int, way: Way, space: Any, last: bool = False) -> np.ndarray:
        """last: of the last row too, as observations have it."""
        table = self._rows(episode).to_table(columns={"it": self._field(way)})
        return to_array(table["it"].slice(0, len(table) - (not last)), getattr(space, "shape", ()))

    def steps(self, episode: int) -> int:
        return int(self._rows(episode).count_rows()) - 1

    def pictures(self, episode: int, way: Way, shape: tuple[int, ...]) -> tuple[int, Iterator[Any]]:
        rows = self._rows(episode)
        batches = rows.scanner(columns={"it": self._field(way)}, batch_size=PIECE, batch_readahead=1,
                               use_threads=False).to_batches()
        return int(rows.count_rows()), (
            picture for batch in batches
            for picture in (batch.column(0).to_pylist() if "binary" in str(batch.column(0).type)
                            else to_array(batch.column(0), shape)))

    def other_pictures(self, episode: int) -> dict[Way, tuple[int, ...]]:
        found: dict[Way, tuple[int, ...]] = {}

        def look(fields: Any, way: Way) -> None:
            for field in fields:
                shape = tuple(int(size) for size in (field.metadata or {}).get(b"shape", b"").split(b",") if size)
                if str(field.type).startswith("struct"):
                    look(field.type, (*way, field.name))
                elif is_picture(shape, np.uint8) and "uint8" in str(field.type):
                    found[*way, field.name] = shape

        schema = self._rows(episode).schema
        look(schema.field("infos").type if "infos" in schema.names else (), ("infos",))
        return found

    def _field(self, way: Way) -> Any:
        return self._dataset.field(*map(str, way))

    def _rows(self, episode: int) -> Any:
        return self._dataset.dataset(str(self.folder / str(episode)), format=self.format,
                                     ignore_prefixes=["_", ".", "metadata.json"])


STORAGES: dict[str, type[Hdf5Storage] | type[ArrowStorage]] = {
    "hdf5": Hdf5Storage, "arrow": ArrowStorage, "parquet": ArrowStorage}


def open_storage(folder: Path, format: str) -> Hdf5Storage | ArrowStorage:
    if format not in STORAGES:
        raise DataError(f"{folder} is stored as {format}, expected {', '.join(STORAGES)}")
    return STORAGES[format](folder, format)


def picture_spaces(found: list[tuple[Way, Any]]) -> dict[Way, tuple[int, ...]]:
    """The observations that are pictures, with their shapes."""
    return {("observations", *way): space.shape for way, space in found
            if isinstance(space, Box) and is_picture(space.shape, space.dtype)}
