"""Read from what LeRobot's own writer wrote (tests/data/foreign/make_lerobot.py), AV1 where it is video."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from wakedream.data.config import IngestConfig
from wakedream.data.readers.ingest import ingest
from wakedream.data.readers.lerobot import LeRobot
from wakedream.data.store import Store
from wakedream.data.video import encode_mp4
from wakedream.errors import ConfigError, DataError, MissingExtraError

pytest.importorskip("pyarrow", reason="LeRobot's files need pyarrow: pip install 'wakedream[lerobot]'")
FOREIGN = Path(__file__).parents[1] / "foreign"
LENGTHS = [12, 9, 15]
ALL = ["lerobot_v30", "lerobot_v30_images", "lerobot_v21"]


def read(place: Path, out: Path, camera: str | None = "top", **options: object) -> Store:
    ingest(IngestConfig((f"lerobot:{place}",), str(out), camera=camera, **options))
    return Store.open(out)


def copied(tmp_path: Path, name: str) -> Path:
    return Path(shutil.copytree(FOREIGN / name, tmp_path / name))


@pytest.mark.parametrize("name", ALL)
def test_an_action_taken_at_a_frame_led_into_the_next(tmp_path: Path, name: str) -> None:
    store = read(FOREIGN / name, tmp_path / "data")
    assert [info.frames for info in store.episodes] == LENGTHS
    assert [(c.name, c.kind, c.labels) for c in store.spec.components] == [("action", "continuous", ("dx", "dy"))]
    for number, length in enumerate(LENGTHS):
        episode, t = store.read(number), np.arange(length)
        assert episode.has_action.tolist() == episode.has_reward.tolist() == [False] + [True] * (length - 1)
        assert np.array_equal(episode.actions["action"][1:], np.stack([t + 100 * number, -t], 1)[:-1])
        assert np.array_equal(episode.rewards[1:], t[:-1] / 2)
        assert episode.info["after_last"]["action"] == [length - 1 + 100 * number, 1 - length]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("camera", ["top", "wrist"])
def test_each_episode_has_its_own_frames_though_one_file_has_many(tmp_path: Path, name: str, camera: str) -> None:
    store = read(FOREIGN / name, tmp_path / "data", camera)
    channel = ["top", "wrist"].index(camera)
    for number, length in enumerate(LENGTHS):
        video = store.read(number).video.astype(int)
        bright = (video[:, 32, :, channel] > 200).sum(-1)
        assert np.array_equal(bright, 4 * np.arange(length) + 4)
        assert np.abs(video[:, :, -1, 2] - (20 + 40 * number)).max() <= 3


@pytest.mark.parametrize("name", ALL)
def test_tasks_are_those_of_the_frames(tmp_path: Path, name: str) -> None:
    store = read(FOREIGN / name, tmp_path / "data")
    assert [store.read(i).task.tolist() for i in range(3)] == [[0] * 12, [1] * 9, [0] * 15]
    assert [info.info["tasks"] for info in store.episodes] == [{"0": "go left"}, {"1": "go right"}, {"0": "go left"}]


def test_an_episode_ended_if_its_last_frame_is_the_one_after_done(tmp_path: Path) -> None:
    """Where done came of the last action alone, the frame that ended it is not there."""
    store = read(FOREIGN / "lerobot_v30", tmp_path / "data")
    assert [info.terminated for info in store.episodes] == [False, True, False]
    assert [info.truncated for info in store.episodes] == [True, False, True]


def test_of_several_cameras_one_is_chosen_by_name(tmp_path: Path) -> None:
    for camera in (None, "front"):
        with pytest.raises(ConfigError, match=r"observation\.images\.top, observation\.images\.wrist"):
            LeRobot(str(FOREIGN / "lerobot_v30"), camera)
    assert LeRobot(str(FOREIGN / "lerobot_v30"), "observation.images.top").camera == "observation.images.top"


def test_what_is_not_kept_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    read(FOREIGN / "lerobot_v21", tmp_path / "data")
    assert "not kept: observation.images.wrist, observation.state" in capsys.readouterr().err


def test_a_missing_video_is_named_and_the_other_episodes_kept(tmp_path: Path) -> None:
    place = copied(tmp_path, "lerobot_v21")
    lost = place / "videos/chunk-000/observation.images.top/episode_000001.mp4"
    lost.unlink()
    with pytest.raises(DataError, match=r"1 of 3 source episodes(.|\n)*episode_000001.mp4 is not a file"):
        read(place, tmp_path / "data")
    assert [info.frames for info in Store.open(tmp_path / "data").episodes] == [12, 15]
    shutil.copy(FOREIGN / lost.relative_to(place.parent), lost)
    assert sorted(info.frames for info in read(place, tmp_path / "data").episodes) == [9, 12, 15]


@pytest.mark.parametrize(("frames", "fps"), [(5, 10), (9, 5)])
def test_a_video_with_other_frames_than_the_table_leaves_none_of_its_episode(tmp_path: Path, frames: int,
                                                                            fps: int) -> None:
    place = copied(tmp_path, "lerobot_v21")
    video = place / "videos/chunk-000/observation.images.top/episode_000001.mp4"
    video.write_bytes(encode_mp4(np.zeros((frames, 64, 64, 3), np.uint8), fps))
    with pytest.raises(DataError, match=r"episode_000001.mp4 has no frame at 0\.[15]"):
        read(place, tmp_path / "data", episode_frames=4)
    store = Store.open(tmp_path / "data")
    assert {info.info["name"] for info in store.episodes} == {"episode 0", "episode 2"}


@pytest.mark.parametrize("missing", [True, False])
def test_a_damaged_or_missing_table_loses_no_more_than_its_episode(tmp_path: Path, missing: bool) -> None:
    place = copied(tmp_path, "lerobot_v21")
    table = place / "data/chunk-000/episode_000001.parquet"
    data = table.read_bytes()
    table.unlink()
    if not missing:
        table.write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=r"1 of 3(.|\n)*episode_000001.parquet cannot be read"):
        read(place, tmp_path / "data")
    assert [info.frames for info in Store.open(tmp_path / "data").episodes] == [12, 15]


def test_a_video_that_breaks_off_loses_no_more_than_its_episodes(tmp_path: Path) -> None:
    place = copied(tmp_path, "lerobot_v30")
    video = place / "videos/observation.images.top/chunk-000/file-000.mp4"
    data = video.read_bytes()
    video.write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(DataError, match=r"file-000.mp4"):
        read(place, tmp_path / "data")


def test_another_format_and_another_folder_are_refused(tmp_path: Path) -> None:
    place = copied(tmp_path, "lerobot_v21")
    info = json.loads((place / "meta/info.json").read_text())
    (place / "meta/info.json").write_text(json.dumps(info | {"codebase_version": "v1.6"}))
    with pytest.raises(DataError, match=r"format v1.6, expected v3.0"):
        LeRobot(str(place), "top")
    with pytest.raises(DataError, match=r"no LeRobot data set, it has no meta/info.json"):
        LeRobot(str(tmp_path), "top")


def test_without_pyarrow_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtraError, match=r"wakedream\[lerobot\]"):
        LeRobot(str(FOREIGN / "lerobot_v30"), "top")
