from pathlib import Path

import numpy as np
import pytest

import wakedream as wd
from wakedream.errors import DataError

SPEC = wd.data.ActionSpec((wd.data.ActionComponent("move", "categorical", 3),
                           wd.data.ActionComponent("arm", "continuous", 2, (-1.0, -1.0), (1.0, 1.0))))


def frames(t: int) -> np.ndarray:
    return np.random.default_rng(t).integers(0, 256, (t, 16, 16, 3), np.uint8)


def writer(path: Path, **options: object) -> "wd.data.Writer":
    return wd.data.Writer(path, frame_shape=(16, 16, 3), actions=SPEC, **options)


def test_the_readme_writes_and_reads_a_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The README's own lines, run."""
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    blocks = [part.split("```")[0] for part in readme.split("```python\n")[1:]]
    written = next(block for block in blocks if "wd.data.Writer" in block)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(written, names)
    assert np.array_equal(names["episode"].video, names["frames"])
    assert names["episode"].actions["move"][1:].tolist() == names["moves"][1:].tolist()


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    arm = np.random.default_rng(0).uniform(-1, 1, (5, 2))
    with writer(tmp_path / "data", info={"from": "here"}) as data:
        data.add(frames(5), {"move": [2, 1, 0, 2, 1], "arm": arm}, rewards=range(5), terminated=True, task=4,
                 events={"hit": [1, 0, 0, 1, 0]}, extras={"light": np.ones(5)}, info={"player": "me"})
        data.add(frames(3))
        assert len(data) == 2
    store = wd.data.Store.open(tmp_path / "data")
    first, second = store.read(0), store.read(1)
    assert np.array_equal(first.video, frames(5)) and np.array_equal(second.video, frames(3))
    assert first.actions["move"].tolist() == [0, 1, 0, 2, 1] and np.allclose(first.actions["arm"][1:], arm[1:])
    assert first.rewards.tolist() == [0, 1, 2, 3, 4] and first.has_reward.tolist() == [False] + [True] * 4
    assert first.events["hit"].tolist() == [False, False, False, True, False]
    assert first.task.tolist() == [4] * 5 and first.info == {"player": "me"}
    assert (first.terminated, second.terminated) == (True, False)
    assert not second.has_action.any() and not second.has_reward.any()


def test_what_lies_between_frames_is_one_less(tmp_path: Path) -> None:
    with writer(tmp_path / "data") as data:
        data.add(frames(4), {"move": [2, 1, 0], "arm": np.ones((3, 2))}, rewards=[5, 6, 7])
    episode = wd.data.Store.open(tmp_path / "data").read(0)
    assert episode.actions["move"].tolist() == [0, 2, 1, 0]
    assert episode.rewards.tolist() == [0, 5, 6, 7]


@pytest.mark.parametrize(("actions", "more", "told"), [
    ({"move": [0] * 4}, {}, "expected those of the components"),
    ({"move": [0, 0, 3, 0], "arm": np.ones((4, 2))}, {}, r"frame 2: got 3, expected 0 to 2"),
    ({"move": [0] * 2, "arm": np.ones((4, 2))}, {}, "2 entries for 4 frames; expected 4"),
    ({"move": [0, 0.5, 0, 0], "arm": np.ones((4, 2))}, {}, "not whole"),
    ({"move": [0] * 4, "arm": np.ones((4, 3))}, {}, "expected 2 finite numbers"),
    ({"move": [0] * 4, "arm": np.full((4, 2), np.nan)}, {}, "expected 2 finite numbers"),
    (None, {"rewards": ["a"] * 4}, "expected numbers"),
    (None, {"extras": {"light": np.ones(3)}}, "one value for each of the 4 frames"),
])
def test_what_does_not_fit_is_refused_and_nothing_of_it_kept(tmp_path: Path, actions, more, told: str) -> None:
    with writer(tmp_path / "data") as data:
        data.add(frames(3))
        with pytest.raises(DataError, match=told):
            data.add(frames(4), actions, **more)
    assert len(wd.data.Store.open(tmp_path / "data").episodes) == 1


def test_a_data_set_is_continued_and_another_refused(tmp_path: Path) -> None:
    for count in (1, 2):
        with writer(tmp_path / "data") as data:
            data.add(frames(3))
            assert len(data) == count
    with pytest.raises(DataError, match="frame_shape"):
        wd.data.Writer(tmp_path / "data", frame_shape=(8, 8, 3), actions=SPEC)
