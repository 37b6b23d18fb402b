"""Read from what Minari's own writer wrote (tests/data/foreign/make_minari.py)."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from wakedream.data.config import IngestConfig
from wakedream.data.readers.ingest import ingest
from wakedream.data.readers.minari import Minari
from wakedream.data.store import Store
from wakedream.errors import DataError

for module in ("h5py", "pyarrow"):
    pytest.importorskip(module, reason=f"Minari's files need {module}: pip install 'wakedream[minari]'")
FOREIGN = Path(__file__).parents[1] / "foreign" / "minari"
STORAGES = ["hdf5", "arrow", "parquet", "raw"]


@pytest.fixture(autouse=True)
def _datasets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(FOREIGN))


def read(name: str, out: Path, camera: str | None = None) -> Store:
    ingest(IngestConfig((f"minari:{name}",), str(out), size="32", camera=camera))
    return Store.open(out)


def shown(store: Store) -> list[list[int]]:
    """How many columns are bright, by episode and frame."""
    return [(store.video(info.id)[:, 16, :, 0] > 150).sum(-1).tolist() for info in store.episodes]


@pytest.mark.parametrize("storage", STORAGES)
def test_action_i_led_from_observation_i_to_the_next(tmp_path: Path, storage: str) -> None:
    store = read(f"walk/{storage}-v0", tmp_path / "data")
    assert {c.name: (c.kind, c.size, c.low) for c in store.spec.components} == {
        "move": ("categorical", 3, (1.0,)), "arm": ("continuous", 2, (-2.0, -2.0)), "bits": ("binary", 3, ()),
        "more/0": ("categorical", 2, ()), "more/1": ("categorical", 3, ())}
    for episode in map(store.read, range(2)):
        t = np.arange(7)
        bright = (episode.video[:, 16, :, 0] > 150).sum(-1)
        assert np.array_equal(bright, 2 * np.arange(8) + 2)
        assert episode.has_action.tolist() == [False] + [True] * 7
        assert episode.rewards.tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
        assert np.array_equal(episode.actions["move"][1:], t % 3)
        assert np.allclose(episode.actions["arm"][1:], np.stack([t / 10, -t / 10], 1))
        assert np.array_equal(episode.actions["more/0"][1:], t % 2)
        assert np.array_equal(episode.actions["more/1"][1:], t % 3)
        assert np.array_equal(episode.actions["bits"][1:], np.stack([t % 2, t * 0 + 1, t * 0], 1))


@pytest.mark.parametrize("storage", STORAGES)
def test_an_end_is_told_from_a_limit(tmp_path: Path, storage: str) -> None:
    store = read(f"walk/{storage}-v0", tmp_path / "data")
    assert [(info.terminated, info.truncated) for info in store.episodes] == [(True, False), (False, True)]
    assert [info.info["seed"] for info in store.episodes] == [10, 11]


def test_a_path_does_as_well_as_a_name(tmp_path: Path) -> None:
    for place in (FOREIGN / "walk" / "hdf5-v0", FOREIGN / "walk" / "hdf5-v0" / "data"):
        assert Minari(str(place), None).episodes == ["episode 0", "episode 1"]


def test_without_pictures_the_error_says_what_there_is_and_what_to_do() -> None:
    with pytest.raises(DataError, match=r"no pictures: it has observations alone: float32 \(2,\)(.|\n)*AddRenderObs"):
        Minari("walk/blind-v0", None)


@pytest.mark.parametrize("name", ["infos", "infos-arrow"])
def test_pictures_may_stand_in_the_infos(tmp_path: Path, name: str) -> None:
    store = read(f"walk/{name}-v0", tmp_path / "data")
    assert shown(store) == [[2 * t + 2 for t in range(8)]] * 2


@pytest.mark.parametrize("name", ["blind", "blind-arrow"])
def test_the_environment_can_render_what_has_no_pictures(tmp_path: Path, name: str,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gymnasium")
    monkeypatch.syspath_prepend(FOREIGN.parent)
    store = read(f"walk/{name}-v0", tmp_path / "data", camera="render")
    assert shown(store) == [[2 * t + 2 for t in range(8)]] * 2
    assert store.read(0).actions["action"][1:].tolist() == [0, 1, 0, 1, 0, 1, 0]


def test_an_environment_that_plays_otherwise_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gymnasium")
    monkeypatch.syspath_prepend(FOREIGN.parent)
    import make_minari

    monkeypatch.setattr(make_minari.Walk, "seen", lambda self: np.array([self.t * 1.5, self.chance], np.float32))
    with pytest.raises(DataError, match="shows another observation"):
        read("walk/blind-v0", tmp_path / "data", camera="render")


def test_an_unknown_name_tells_those_that_are_there() -> None:
    with pytest.raises(DataError, match=r"no Minari data set walk/none-v0(.|\n)*walk/hdf5-v0(.|\n)*minari download"):
        Minari("walk/none-v0", None)


@pytest.mark.parametrize(("storage", "file"), [("hdf5", "data/main_data.hdf5"), ("arrow", "data/1/part-0.arrow")])
def test_damage_is_a_clear_error(tmp_path: Path, storage: str, file: str) -> None:
    place = Path(shutil.copytree(FOREIGN / "walk" / f"{storage}-v0", tmp_path / "cut"))
    data = (place / file).read_bytes()
    (place / file).write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match="cannot be read"):
        read(str(place), tmp_path / "data")
