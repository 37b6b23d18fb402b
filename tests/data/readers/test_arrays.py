"""The layout that docs/data.md states for plain HDF5 and npz files."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wakedream.data.config import IngestConfig
from wakedream.data.readers.ingest import ingest
from wakedream.data.store import Store
from wakedream.errors import DataError


def frames(t: int, shade: int = 0) -> np.ndarray:
    video = np.full((t, 24, 24, 3), shade, np.uint8)
    video[:, :, 0] = np.arange(t, dtype=np.uint8)[:, None, None]
    return video


def write(kind: str, file: Path, **arrays: Any) -> Path:
    """`a__b` is the array a/b."""
    named = {name.replace("__", "/"): np.asarray(values) for name, values in arrays.items()}
    if kind == "npz":
        np.savez_compressed(file, **named)
    else:
        h5py = pytest.importorskip("h5py", reason="HDF5 needs h5py: pip install 'wakedream[hdf5]'")
        with h5py.File(file, "a") as opened:
            for name, values in named.items():
                opened[name] = values
    return file


def read(kind: str, place: Path, out: Path, **options: Any) -> Store:
    ingest(IngestConfig((f"{kind}:{place}",), str(out), size="24", **options))
    return Store.open(out)


@pytest.mark.parametrize("kind", ["npz", "hdf5"])
def test_arrays_are_read_as_they_are(tmp_path: Path, kind: str) -> None:
    t, rng = 9, np.random.default_rng(0)
    arm, hit = rng.normal(size=(t, 2)), np.arange(t) % 3 == 0
    file = write(kind, tmp_path / f"a.{kind}", frames=frames(t), actions__move=np.arange(t) % 4, actions__arm=arm,
                 actions__keys=np.arange(3 * t).reshape(t, 3) % 2 == 0, rewards=np.arange(t), terminated=True,
                 has_action=np.arange(t) != 4, task=np.full(t, 3), events__hit=hit, extras__light=np.arange(t) / 10)
    store = read(kind, file, tmp_path / "data")
    episode = store.read(0)
    assert np.array_equal(episode.video, frames(t))
    kinds = {c.name: (c.kind, c.size) for c in store.spec.components}
    assert kinds == {"move": ("categorical", 4), "arm": ("continuous", 2), "keys": ("binary", 3)}
    known = (np.arange(t) != 4) & (np.arange(t) > 0)
    assert np.array_equal(episode.has_action, known)
    assert np.allclose(episode.actions["arm"][known], arm[known])
    assert np.array_equal(episode.actions["move"], np.where(known, np.arange(t) % 4, 0))
    assert episode.rewards.tolist() == [0, *range(1, t)] and episode.terminated
    assert episode.task.tolist() == [3] * t and np.allclose(episode.extras["light"], np.arange(t) / 10)
    assert np.array_equal(episode.events["hit"], hit & (np.arange(t) > 0))


@pytest.mark.parametrize("kind", ["npz", "hdf5"])
def test_one_entry_less_than_frames_lies_between_them(tmp_path: Path, kind: str) -> None:
    file = write(kind, tmp_path / f"a.{kind}", frames=frames(5), actions=[3, 1, 0, 2], rewards=[1, 2, 3, 4])
    episode = read(kind, file, tmp_path / "data").read(0)
    assert episode.actions["action"].tolist() == [0, 3, 1, 0, 2]
    assert episode.rewards.tolist() == [0, 1, 2, 3, 4] and episode.truncated


@pytest.mark.parametrize("kind", ["npz", "hdf5"])
def test_first_frames_part_a_file_into_episodes(tmp_path: Path, kind: str) -> None:
    first = np.isin(np.arange(10), (0, 4))
    file = write(kind, tmp_path / f"a.{kind}", frames=frames(10), actions=np.arange(10), is_first=first,
                 terminated=np.arange(10) == 3)
    store = read(kind, file, tmp_path / "data")
    assert [(info.frames, info.terminated) for info in store.episodes] == [(4, True), (6, False)]
    assert store.read(1).actions["action"].tolist() == [0, 5, 6, 7, 8, 9]
    assert np.array_equal(store.read(1).video, frames(10)[4:])


def test_each_group_and_each_file_is_an_episode(tmp_path: Path) -> None:
    for group in ("one", "two"):
        write("hdf5", tmp_path / "in" / "a.h5" if (tmp_path / "in").mkdir(exist_ok=True) is None else tmp_path,
              **{f"{group}__frames": frames(6), f"{group}__actions": np.zeros(6, int)})
    write("hdf5", tmp_path / "in" / "b.hdf5", frames=frames(7), actions=np.ones(7, int))
    store = read("hdf5", tmp_path / "in", tmp_path / "data")
    assert [info.frames for info in store.episodes] == [6, 6, 7]
    assert store.spec.components[0].size == 2


@pytest.mark.parametrize(("arrays", "told"), [
    ({"frames": frames(5).astype(np.float32)}, "expected uint8"),
    ({"pictures": frames(5)}, "it has pictures.*--camera"),
    ({"frames": frames(5), "actions": [1, 2]}, "2 entries for 5 frames; expected 5"),
    ({"frames": frames(5), "rewards": np.arange(5), "terminated": np.arange(5) == 2}, "terminated after 3 of 5 frames"),
    ({"frames": frames(5), "actions": np.array([{}] * 5, object)}, "Object arrays"),
    ({"frames": frames(5), "actions": [0.5, np.nan, 0, 1]}, "expected 1 finite"),
])
def test_what_does_not_fit_is_named(tmp_path: Path, arrays: dict[str, Any], told: str) -> None:
    write("npz", tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=told):
        read("npz", tmp_path / "a.npz", tmp_path / "data")


def test_a_damaged_file_among_others_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in "abc":
        write("npz", tmp_path / "in" / f"{name}.npz", frames=frames(5))
    (tmp_path / "in" / "b.npz").write_bytes(b"PK\x03\x04 not whole")
    with pytest.raises(DataError, match=r"1 of 3(.|\n)*b\.npz"):
        read("npz", tmp_path / "in", tmp_path / "data")
    assert len(Store.open(tmp_path / "data").episodes) == 2


def test_the_pictures_may_have_another_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a file of another layout its actions may have been taken at their frames, which cannot be seen."""
    file = write("npz", tmp_path / "a.npz", obs__image=frames(5), actions=np.zeros(5, int))
    assert read("npz", file, tmp_path / "data", camera="obs/image").episodes[0].frames == 5
    assert "taken to have led into frame i" in capsys.readouterr().err
