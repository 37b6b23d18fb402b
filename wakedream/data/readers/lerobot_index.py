"""Where the episodes of a LeRobot data set lie: format v3.0 (many in a file), v2.1 and v2.0 (a file each)."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wakedream.data.readers.source import readable
from wakedream.errors import DataError, require

INFO = "meta/info.json"


@dataclass(frozen=True)
class Entry:
    """One episode. data: the parquet file with its rows; video: a camera's, in which it begins at `start` seconds."""

    number: int
    length: int
    data: Path
    video: Path | None
    start: float


def read_info(root: Path) -> dict[str, Any]:
    """DataError unless this is a LeRobot data set of a version that can be read."""
    file = root / INFO
    if not file.is_file():
        raise DataError(f"{root} is no LeRobot data set, it has no {INFO}: expected the folder with meta, data and "
                        "videos (`hf download --repo-type dataset NAME --local-dir PATH` gets one)")
    with readable(str(file)):
        info: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        version = str(info["codebase_version"])
        for name in ("features", "fps", "data_path"):
            info[name]
    if version not in LAYOUTS:
        raise DataError(f"{root} is of LeRobot's format {version}, expected {', '.join(LAYOUTS)}: convert it "
                        "with LeRobot")
    return info


def read_index(root: Path, info: dict[str, Any], camera: str) -> list[Entry]:
    """All episodes in order; `camera`: of a feature that is a video, else no video is looked for."""
    video = camera if info["features"][camera]["dtype"] == "video" else None
    with readable(str(root / "meta")):
        return sorted(LAYOUTS[str(info["codebase_version"])](root, info, video), key=lambda entry: entry.number)


def read_tasks(root: Path) -> dict[int, str]:
    """Each task's words by its number; those that nothing is said of are not there."""
    lines, table = root / "meta" / "tasks.jsonl", root / "meta" / "tasks.parquet"
    with readable(str(root / "meta")):
        if table.is_file():
            rows = require("pyarrow.parquet", "lerobot").read_table(table).to_pylist()
        elif lines.is_file():
            rows = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines() if line.strip()]
        else:
            rows = []
        # the words are in "task", or in the table's index, whatever its name
        return {int(row["task_index"]): str(next(row[name] for name in row if name != "task_index")) for row in rows}


def _one_each(root: Path, info: dict[str, Any], camera: str | None) -> Iterator[Entry]:
    with open(root / "meta" / "episodes.jsonl", encoding="utf-8") as lines:
        for about in map(json.loads, filter(str.strip, lines)):
            number = int(about["episode_index"])
            place = {"episode_index": number, "episode_chunk": number // int(info.get("chunks_size", 1000))}
            video = root / info["video_path"].format(video_key=camera, **place) if camera else None
            yield Entry(number, int(about["length"]), root / info["data_path"].format(**place), video, 0.0)


def _many_in_one(root: Path, info: dict[str, Any], camera: str | None) -> Iterator[Entry]:
    parquet = require("pyarrow.parquet", "lerobot")
    where = [f"videos/{camera}/{name}" for name in ("chunk_index", "file_index", "from_timestamp")] if camera else []
    names = ["episode_index", "length", "data/chunk_index", "data/file_index", *where]
    files = sorted((root / "meta" / "episodes").rglob("*.parquet"))
    if not files:
        raise DataError(f"{root} has no meta/episodes: get it whole")
    for file in files:
        for row in parquet.read_table(file, columns=names).to_pylist():
            if lacking := [name for name in names if row.get(name) is None]:
                raise DataError(f"{file} has no {', '.join(lacking)} for episode {row.get('episode_index')}")
            data, film = ({"chunk_index": row[f"{of}/chunk_index"], "file_index": row[f"{of}/file_index"]}
                          for of in ("data", f"videos/{camera}" if camera else "data"))
            video = root / info["video_path"].format(video_key=camera, **film) if camera else None
            yield Entry(row["episode_index"], row["length"], root / info["data_path"].format(**data), video,
                        row[where[2]] if camera else 0.0)


LAYOUTS: dict[str, Callable[[Path, dict[str, Any], str | None], Iterator[Entry]]] = {
    "v3.0": _many_in_one, "v2.1": _one_each, "v2.0": _one_each}
