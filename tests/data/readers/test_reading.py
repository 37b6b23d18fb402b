"""What holds for all data of others, whatever its format."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wakedream.data.config import IngestConfig
from wakedream.data.readers import ingest as module
from wakedream.data.readers.ingest import ingest
from wakedream.data.readers.pictures import is_picture
from wakedream.data.readers.registry import READERS, split
from wakedream.data.store import Store
from wakedream.data.video import encode_mp4
from wakedream.errors import ConfigError, DataError


def write(folder: Path, count: int, t: int = 20) -> Path:
    folder.mkdir(exist_ok=True)
    for i in range(count):
        rng = np.random.default_rng(i)
        np.savez(folder / f"{i}.npz", frames=rng.integers(0, 256, (t, 24, 24, 3), np.uint8), actions=np.arange(t) % 3,
                 rewards=np.ones(t))
    return folder


def config(folder: Path, out: Path, **options: Any) -> IngestConfig:
    return IngestConfig((f"npz:{folder}",), str(out), **{"size": "24", **options})


def test_a_second_call_reads_no_picture_twice_and_takes_what_is_new(tmp_path: Path,
                                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path / "in", 3)
    ingest(config(folder, tmp_path / "data"))
    before = Store.open(tmp_path / "data").fingerprint
    seen = []
    fitted = module.fitted
    monkeypatch.setattr(module, "fitted", lambda *a: seen.append(1) or fitted(*a))
    ingest(config(folder, tmp_path / "data"))
    assert Store.open(tmp_path / "data").fingerprint == before and not seen
    write(folder, 4)
    ingest(config(folder, tmp_path / "data"))
    assert len(Store.open(tmp_path / "data").episodes) == 4 and len(seen) == 20


def test_an_episode_that_changed_is_told(tmp_path: Path) -> None:
    folder = write(tmp_path / "in", 2)
    ingest(config(folder, tmp_path / "data"))
    np.savez(folder / "1.npz", frames=np.zeros((20, 24, 24, 3), np.uint8), actions=np.zeros(20, int))
    with pytest.raises(DataError, match=r"1\.npz: it has changed since"):
        ingest(config(folder, tmp_path / "data"))


def test_a_killed_call_leaves_no_episode_by_halves_and_goes_on(tmp_path: Path) -> None:
    folder = write(tmp_path / "in", 6, t=40)
    code = f"""
import os, signal
from wakedream.data import writer
from wakedream.data.config import IngestConfig
from wakedream.data.readers import ingest
writer.StoreWriter.__init__.__kwdefaults__["shard_frames"] = 50
fitted, count = ingest.fitted, 0
def killing(*a):
    global count
    count += 1
    if count == 150:
        os.kill(os.getpid(), signal.SIGKILL)
    return fitted(*a)
ingest.fitted = killing
ingest.ingest(IngestConfig(("npz:{folder}",), {str(tmp_path / "data")!r}, size="24", episode_frames=16))
"""
    result = subprocess.run([sys.executable, "-c", code], timeout=120, capture_output=True, text=True, check=False)
    assert result.returncode == -signal.SIGKILL, result.stderr
    assert not os.path.exists(tmp_path / "data" / "manifest.json")
    ingest(config(folder, tmp_path / "data", episode_frames=16))
    store = Store.open(tmp_path / "data")
    assert store.verify() == [] and sorted(info.frames for info in store.episodes) == [8] * 6 + [16] * 12
    for i in range(6):
        pieces = [info for info in store.episodes if info.info["name"] == f"{i}.npz"]
        assert [info.info["first_frame"] for info in pieces] == [0, 16, 32]
        video = np.concatenate([store.video(info.id) for info in pieces])
        assert np.array_equal(video, np.load(folder / f"{i}.npz")["frames"])


def test_pieces_begin_without_what_led_into_them(tmp_path: Path) -> None:
    ingest(config(write(tmp_path / "in", 1), tmp_path / "data", episode_frames=8))
    store = Store.open(tmp_path / "data")
    assert [info.frames for info in store.episodes] == [8, 8, 4]
    for episode in map(store.read, range(3)):
        assert not episode.has_action[0] and not episode.has_reward[0] and episode.actions["action"][0] == 0
        assert episode.has_action[1:].all()
    assert store.read(1).actions["action"][1:].tolist() == (np.arange(9, 16) % 3).tolist()


def test_several_sources_go_together_if_their_actions_are_alike(tmp_path: Path) -> None:
    for name, scale in (("a", 1.0), ("b", 5.0)):
        np.savez(tmp_path / f"{name}.npz", frames=np.zeros((6, 24, 24, 3), np.uint8),
                 actions=np.linspace(-scale, scale, 6)[:, None])
    np.savez(tmp_path / "c.npz", frames=np.zeros((6, 24, 24, 3), np.uint8), actions=np.zeros((6, 2)))
    a, b, c = (f"npz:{tmp_path / name}.npz" for name in "abc")
    ingest(IngestConfig((a, b), str(tmp_path / "data"), size="24"))
    spec = Store.open(tmp_path / "data").spec
    assert spec.components[0].low == (-5.0,) and spec.components[0].high == (5.0,)
    with pytest.raises(DataError, match=r"c\.npz has the action component 'action' with size 2, expected 1"):
        ingest(IngestConfig((a, c), str(tmp_path / "other"), size="24"))


def test_choices_that_were_not_seen_make_no_other_actions(tmp_path: Path) -> None:
    for name, actions in (("a", [0, 1, 3]), ("b", [2, 1, -1]), ("c", [0, 1, 5])):
        np.savez(tmp_path / f"{name}.npz", frames=np.zeros((4, 24, 24, 3), np.uint8), actions=actions)
    a, b, c = (f"npz:{tmp_path / name}.npz" for name in "abc")
    ingest(IngestConfig((a, b), str(tmp_path / "data"), size="24"))
    store = Store.open(tmp_path / "data")
    assert (store.spec.components[0].size, store.spec.components[0].low) == (5, (-1.0,))
    assert [store.read(i).actions["action"][1:].tolist() for i in range(2)] == [[1, 2, 4], [3, 2, 0]]
    ingest(IngestConfig((b,), str(tmp_path / "data"), size="24"))
    with pytest.raises(DataError, match=r"c\.npz: the actions 'action', frame 3: got 5, expected -1 to 3"):
        ingest(IngestConfig((c,), str(tmp_path / "data"), size="24"))


def test_a_data_set_of_others_grows_with_its_own_bounds(tmp_path: Path) -> None:
    """The second source's numbers go beyond: its spec may not make the data set another."""
    for name, scale in (("a", 1.0), ("b", 5.0)):
        np.savez(tmp_path / f"{name}.npz", frames=np.zeros((6, 24, 24, 3), np.uint8),
                 actions=np.linspace(-scale, scale, 6)[:, None])
        ingest(IngestConfig((f"npz:{tmp_path / name}.npz",), str(tmp_path / "data"), size="24"))
    store = Store.open(tmp_path / "data")
    assert len(store.episodes) == 2 and store.spec.components[0].high == (1.0,)
    assert store.read(1).actions["action"][-1] == 5.0


def test_a_name_with_a_colon_that_is_a_file_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in READERS:
        Path(f"{name}:film.mp4").write_bytes(encode_mp4(np.zeros((6, 24, 24, 3), np.uint8)))
        assert split(f"{name}:film.mp4") is None
        assert split(f"{name}:none") == (name, "none")
    with pytest.raises(ConfigError, match=r"unknown reader 'lerobt'; did you mean 'lerobot'"):
        split("lerobt:none")


def test_options_that_cannot_go_together_are_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "in", 1)
    film = tmp_path / "a.mp4"
    film.write_bytes(encode_mp4(np.zeros((6, 24, 24, 3), np.uint8)))
    with pytest.raises(ConfigError, match="--fps 5"):
        ingest(config(folder, tmp_path / "data", fps=5))
    with pytest.raises(ConfigError, match="--keep-truncated"):
        ingest(config(folder, tmp_path / "data", keep_truncated=True))
    with pytest.raises(ConfigError, match="not both in one call"):
        ingest(IngestConfig((f"npz:{folder}", str(film)), str(tmp_path / "data")))
    with pytest.raises(ConfigError, match="--camera top"):
        ingest(IngestConfig((str(film),), str(tmp_path / "data"), camera="top"))
    ingest(config(folder, tmp_path / "data"))
    with pytest.raises(DataError, match="use the same options"):
        ingest(config(folder, tmp_path / "data", fit="pad"))


def test_what_may_be_something_else_is_no_picture() -> None:
    """States, grids, and moments stacked as channels."""
    pictures = [(64, 48), (64, 48, 1), (64, 48, 3), (3, 64, 48)]
    assert all(is_picture(shape, np.uint8) for shape in pictures)
    others = [(7, 7, 3), (84, 84, 4), (4, 84, 84), (64, 2), (3,), (2, 64, 48, 3)]
    assert not any(is_picture(shape, np.uint8) for shape in others) and not is_picture((64, 48, 3), np.float32)


def test_pictures_of_any_kind_become_rgb() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 4), np.uint8)
    size = (20, 30)
    assert np.array_equal(module.fitted(picture, size, "crop"), picture[..., :3])
    assert np.array_equal(module.fitted(picture[..., 0], size, "crop"), picture[..., :1].repeat(3, -1))
    assert np.array_equal(module.fitted(picture[..., :3].transpose(2, 0, 1), size, "crop"), picture[..., :3])
    assert module.fitted(picture, (16, 16), "crop").shape == (16, 16, 3)
    with pytest.raises(DataError, match="float32"):
        module.fitted(picture.astype(np.float32), size, "crop")
