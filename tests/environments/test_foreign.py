"""Laws of recording what others wrote: an environment is read as what it is, or refused in one line that says why."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("gymnasium")
HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # the recording processes inherit it

from foreign_worlds import SHOWN  # noqa: E402

from wakedream import cli  # noqa: E402
from wakedream.data.store import Store  # noqa: E402
from wakedream.environments.config import RecordConfig  # noqa: E402
from wakedream.environments.play import play_episode  # noqa: E402
from wakedream.environments.record import record  # noqa: E402
from wakedream.environments.registry import environment  # noqa: E402
from wakedream.errors import DataError, UserError  # noqa: E402


def played(kind: str, size: int | None = None):
    name = f"foreign_worlds:{kind}-v0"
    return play_episode(name, environment(name).make(size), "random", seed=0, index=0)


def recorded(out: Path, kind: str, **options) -> Store:
    name = kind if ":" in kind else f"foreign_worlds:{kind}-v0"
    record(RecordConfig(name, str(out), **{"frames": 10, "policy": "random", **options}))
    return Store.open(out)


def is_shown(video: np.ndarray) -> bool:
    """Whether each frame, of whatever size, is the world's picture at its step."""
    return all((frame == SHOWN + t).all() for t, frame in enumerate(video))


@pytest.mark.parametrize("kind", ["StackFirst", "StackLast", "StackWrapped", "StackWrappedOfFour"])
def test_moments_side_by_side_are_not_the_colours_of_one_picture(kind):
    assert is_shown(played(kind).video)


@pytest.mark.parametrize("kind", ["Board", "BoardOfBounds", "Depth", "DepthBesideColour", "DepthBesideGrey"])
def test_small_numbers_and_depths_are_not_the_picture(kind):
    assert is_shown(played(kind).video)


def test_numpys_numbers_are_as_good_as_pythons():
    with pytest.warns(UserWarning, match=r"info\['extras'\] holds what is not kept, since it is no number: map, place"):
        episode = played("Numpy")
    assert episode.terminated and not episode.truncated
    assert episode.rewards.tolist() == [0, 1, 1, 0, 1]
    assert episode.has_reward.tolist() == [False, True, True, False, True]
    steps = np.arange(1, 5)
    assert sorted(episode.extras) == ["coins", "health", "heat"]
    for name, values in (("coins", steps), ("health", steps / 4), ("heat", steps + 0.5)):
        assert episode.extras[name][1:].tolist() == values.tolist()
    assert episode.events["hurt"].tolist() == [False, False, True, False, False]


@pytest.mark.parametrize(("kind", "told"), [
    ("NotANumber", "an episode's rewards are not finite"),
    ("TwoRewards", r"a reward is an array of the shape \(2,\), expected one number"),
    ("NoReward", "a reward is None, expected one number"),
])
def test_what_is_no_reward_is_told_with_environment_and_episode(tmp_path, kind, told):
    with pytest.raises(DataError, match=rf"{kind}-v0 failed \(episode 0\): {told}"):
        recorded(tmp_path, kind)


def test_an_environment_that_ends_python_is_named_and_what_came_before_stays(tmp_path):
    with pytest.raises(DataError, match=r"Exiting-v0 failed \(episode 1\): SystemExit: the licence has ended \("):
        recorded(tmp_path, "Exiting")
    assert [info.frames for info in Store.open(tmp_path).episodes] == [5]


def test_an_environment_may_have_processes_of_its_own(tmp_path):
    assert is_shown(recorded(tmp_path, "Served", frames=5).read(0).video)


@pytest.mark.parametrize("place", ["beside_the_user.py", "folder_beside/__init__.py", "package_beside/worlds.py"])
def test_a_module_beside_the_user_is_found_and_opens_files_as_there(tmp_path, monkeypatch, place):
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_text("import gymnasium\n"
                                  "from foreign_worlds import World\n\n\n"
                                  "class Own(World):\n"
                                  "    def reset(self, **options):\n"
                                  "        with open('level.txt') as level:\n"
                                  "            assert level.read() == 'a cave'\n"
                                  "        return super().reset(**options)\n\n\n"
                                  "gymnasium.register('Beside-v0', Own)\n")
    (tmp_path / "level.txt").write_text("a cave")
    monkeypatch.chdir(tmp_path)
    module = place.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    assert is_shown(recorded(tmp_path / "data", f"{module}:Beside-v0", frames=5).read(0).video)


def test_choices_are_kept_from_0_and_played_as_the_environment_counts(tmp_path):
    """It asserts that what it is given is of its space."""
    store = recorded(tmp_path, "Counting", frames=100)
    for component, first, size in zip(store.spec.components, (1, -2, 5), (3, 2, 3), strict=True):
        kept = np.concatenate([store.actions(info.id)[0][component.name] for info in store.episodes])
        assert (component.first, component.size) == (first, size)
        assert set(kept.tolist()) == set(range(size))


def test_whole_numbers_are_a_picture_whatever_their_type():
    assert is_shown(played("PictureInt").video)


@pytest.mark.parametrize("size", [None, 8])
@pytest.mark.parametrize(("kind", "told"), [
    ("Float", r"numbers of the type float64 \(100 to 100\)"), ("Unit", r"numbers of the type float32 \(0.39"),
    ("NaN", r"numbers of the type float64 \(nan to nan\)"), ("Below", "numbers of the type float64"),
    ("Large", "numbers from 400 to 400"), ("Nothing", "NoneType"), ("Flat", r"an array of the shape \(768,\)"),
])
def test_what_is_no_picture_is_refused_with_the_way_out(kind, told, size):
    with pytest.raises(DataError, match=rf"^render\(\) of .* gave {told}.*, expected a picture, .*: wrap the env"):
        played(f"Picture{kind}", size)


@pytest.mark.parametrize(("kind", "told"), [
    ("ByEpisode", r"\(episode 0\): frames of \(16, 16, 3\) .*, \(18, 16, 3\) before: choose a --size"),
    ("ByStep", r"\(episode 0\): one episode has frames of several shapes .*: choose a --size")])
def test_pictures_that_change_their_size_are_told_and_a_size_helps(tmp_path, kind, told):
    with pytest.raises(DataError, match=f"Growing{kind}-v0 failed {told}"):
        recorded(tmp_path, f"Growing{kind}")
    store = recorded(tmp_path, f"Growing{kind}", size="16")
    assert store.frame_shape == (16, 16, 3)
    assert all(is_shown(store.read(info.id).video) for info in store.episodes)


@pytest.mark.parametrize("kind", ["Up", "UpThere"])
def test_an_action_whose_name_leads_through_folders_is_refused(tmp_path, kind):
    with pytest.raises(UserError, match=r"'\.\.(/x)?': expected a (text|name)"):
        recorded(tmp_path / "data", kind)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "said"), [
    ("foreign_worlds:Failing-v0", "the environment foreign_worlds:Failing-v0 failed (making it): OSError: no lic"),
    ("NoSuch-v0", "Gymnasium cannot make the environment 'NoSuch-v0': "),
    ("no_such_module:Any-v0", "no_such_module:Any-v0 needs the module 'no_such_module', which cannot be imported ("),
], ids=["raises", "no id", "no module"])
def test_a_failure_is_one_line_however_many_processes_play(tmp_path, name, said):
    command = [sys.executable, "-m", "wakedream", "record", name, "--out", str(tmp_path / "data"), "--frames", "9",
               "--processes", "3"]
    path = os.pathsep.join([str(HERE), str(HERE.parents[1])])
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, "PYTHONPATH": path})
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(f"error: {said}")
    assert len(done.stderr.splitlines()) == 1, done.stderr


def test_a_size_is_height_x_width(tmp_path):
    arguments = ["record", "foreign_worlds:Own-v0", "--out", str(tmp_path), "--frames", "5", "--size", "64x48"]
    assert cli.main(arguments) == 0
    store = Store.open(tmp_path)
    assert store.frame_shape == (64, 48, 3)
    assert is_shown(store.read(0).video)


def test_another_environment_is_told_in_words(tmp_path):
    recorded(tmp_path, "Own")
    with pytest.raises(DataError, match="recorded with env foreign_worlds:Own-v0, this command says .*Counting-v0"):
        recorded(tmp_path, "Counting", frames=20)
    with pytest.raises(DataError, match="recorded with env foreign_worlds:Own-v0, this command says .*NotANumber-v0"):
        recorded(tmp_path, "NotANumber", frames=20)
    with pytest.raises(DataError, match=r"has frame_shape \(16, 16, 3\) \(pictures of height, width, channels\), this"):
        recorded(tmp_path, "Own", frames=20, size="8x16")
    assert Store.open(tmp_path).frames() == 10
