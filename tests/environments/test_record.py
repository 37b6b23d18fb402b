"""Laws of recording: actions beside the frames that they led into, one recording whatever the processes,
nothing lost when stopped."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from wakedream.data.by_hand import Writer
from wakedream.data.ingest import goes_on
from wakedream.data.readers.pictures import is_picture
from wakedream.data.store import Store
from wakedream.environments.config import RecordConfig
from wakedream.environments.pixels import to_rgb
from wakedream.environments.play import cut, play_episode
from wakedream.environments.record import record
from wakedream.environments.registry import Environment, commanded, environment, make_policy
from wakedream.errors import ConfigError, DataError, MissingExtraError, RunError

pytest.importorskip("gymnasium")
HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # the recording processes inherit it


def toy(name: str = "Painter", size: int | None = None):
    name = f"toy_world:Toy{name}-v0"
    return name, environment(name).make(size)


def painted(video: np.ndarray, actions: np.ndarray) -> bool:
    """Whether each frame shows the action that led into it (kept as 0..4, played as 1..5)."""
    return all((video[t] == 20 * (actions[t] + 1) + t).all() for t in range(1, len(video)))


def test_an_action_stands_beside_the_frame_it_led_into():
    name, env = toy()
    episode = play_episode(name, env, "random", seed=3, index=0)
    assert len(episode.video) == 5
    assert episode.terminated
    assert not episode.truncated
    assert (episode.video[0] == 255).all()
    assert not episode.has_action[0]
    assert episode.has_action[1:].all()
    assert len(set(episode.actions["action"][1:].tolist())) > 1
    assert painted(episode.video, episode.actions["action"])
    assert episode.rewards.tolist() == [0, *(episode.actions["action"][1:] + 1)]
    assert episode.extras["hour"].tolist() == [0, 1, 2, 3, 4]


def test_a_limit_truncates_and_never_terminates():
    name, env = toy()
    episode = play_episode(name, env, None, seed=3, index=0, max_frames=3)
    assert len(episode.video) == 3
    assert episode.truncated
    assert not episode.terminated
    assert cut(episode, 3) is episode
    shorter = cut(play_episode(name, env, None, seed=3, index=0), 4)
    assert len(shorter.video) == len(shorter.rewards) == 4
    assert shorter.truncated
    assert not shorter.terminated


def test_what_happened_and_an_unknown_reward_are_kept_where_they_were_told(tmp_path):
    name, env = toy("Eventful")
    episode = play_episode(name, env, "random", seed=3, index=0)
    assert {name: values.tolist() for name, values in episode.events.items()} == {
        "even": [False, False, True, False, True], "last": [False, False, False, False, True]}
    assert episode.has_reward.tolist() == [False, True, False, True, True]
    assert episode.rewards.tolist() == [*(episode.actions["action"] + 1) * episode.has_reward]
    shorter = cut(episode, 3)
    assert {name: values.tolist() for name, values in shorter.events.items()} == {
        "even": [False, False, True], "last": [False, False, False]}
    record(config(tmp_path, env=name, frames=10))
    store = Store.open(tmp_path)
    assert store.events == ("even", "last")
    assert store.columns(1)["events/last"].tolist() == [False, False, False, False, True]
    assert store.columns(1)["has_reward"].tolist() == [False, True, False, True, True]


def test_what_is_no_event_is_left_alone():
    name, env = toy("Wrong")
    episode = play_episode(name, env, "random", seed=3, index=0)
    assert episode.events == {}
    assert episode.has_reward.tolist() == [False, True, True, True, True]


@pytest.mark.parametrize("kind", ["Rendered", "Keyed"])
def test_pictures_come_from_render_or_from_a_key(kind):
    name, env = toy(kind, size=32 if kind == "Rendered" else None)
    episode = play_episode(name, env, "sticky", seed=0, index=0)
    size = 32 if kind == "Rendered" else 16
    assert episode.video.shape == (5, size, size, 3)
    assert painted(episode.video[:4], episode.actions["action"])
    assert episode.video[4].any()
    assert episode.terminated


def test_pictures_are_told_from_other_arrays():
    assert is_picture((64, 64, 3), np.uint8)
    assert is_picture((3, 64, 64), np.uint8)
    assert is_picture((84, 84), np.uint8)
    assert not is_picture((64, 64, 3), np.float32)
    assert not is_picture((128,), np.uint8)
    assert not is_picture((64, 64, 7), np.uint8)
    grey = np.arange(1024, dtype=np.uint8).reshape(32, 32)
    assert (to_rgb(grey) == grey[:, :, None]).all()
    assert to_rgb(grey).shape == (32, 32, 3)
    colour = np.random.default_rng(0).integers(0, 255, (3, 32, 32)).astype(np.uint8)
    assert (to_rgb(colour) == colour.transpose(1, 2, 0)).all()
    assert to_rgb(np.kron(grey, np.ones((2, 2), np.uint8)), 32)[5, 7, 0] == grey[5, 7]


def config(out: Path, **changes) -> RecordConfig:
    values = {"env": "toy_world:ToyPainter-v0", "out": str(out), "frames": 33, "policy": "random", **changes}
    return RecordConfig(**values)


def test_one_recording_whatever_the_processes_and_the_interruptions(tmp_path):
    uneven = {"env": "toy_world:ToyUneven-v0"}  # later episodes are done first
    record(config(tmp_path / "two", processes=2, **uneven))
    record(config(tmp_path / "parts", frames=20, **uneven))
    record(config(tmp_path / "parts", **uneven))
    stores = [Store.open(tmp_path / name) for name in ("two", "parts")]
    assert stores[0].fingerprint == stores[1].fingerprint
    lengths = [info.frames for info in stores[0].episodes]
    assert lengths == [5, 5, 5, 5, 5, 5, 3]
    last = stores[0].episodes[-1]
    assert last.truncated
    assert not last.terminated
    assert stores[0].episodes[0].terminated
    for info in stores[0].episodes:
        episode = stores[0].read(info.id)
        assert painted(episode.video, episode.actions["action"])
        assert info.info["episode"] == info.id
    before = (tmp_path / "two" / "manifest.json").read_bytes()
    record(config(tmp_path / "two", **uneven))  # enough already
    assert (tmp_path / "two" / "manifest.json").read_bytes() == before
    with pytest.raises(DataError, match=r"recorded with seed 0, this command says 1"):
        record(config(tmp_path / "two", seed=1, frames=50, **uneven))


def test_what_is_refused_or_done_already_writes_nothing(tmp_path):
    """Neither a manifest of format 1 anew, nor one where an interruption left none."""
    record(config(tmp_path))
    file = tmp_path / "manifest.json"
    old = file.read_text().replace('"version": 2', '"version": 1')
    file.write_text(old)
    record(config(tmp_path))  # enough already
    with pytest.raises(DataError, match="recorded with seed 0"):
        record(config(tmp_path, seed=1, frames=50))
    with pytest.raises(DataError, match=r"was recorded from toy_world:ToyPainter-v0 \(policy random, seed 0\), which "
                                        "videos cannot go on with"):
        goes_on(tmp_path, "ingest", {"size": "64"})
    assert file.read_text() == old
    file.unlink()
    with pytest.raises(DataError, match="recorded with seed 0"):
        record(config(tmp_path, seed=1, frames=50))
    assert not file.exists()
    record(config(tmp_path, frames=50))  # goes on, and writes both
    assert '"version": 2' in file.read_text() and Store.open(tmp_path).frames() == 50


def test_what_was_not_recorded_is_not_gone_on_with(tmp_path):
    frames = np.zeros((9, 16, 16, 3), np.uint8)
    for info, origin in (({"source": "ingest", "ingest": {"size": "16", "fps": None}},
                          "was ingested from videos with --size 16, which"), ({}, "was written from Python, which")):
        out = tmp_path / origin[4:8]
        with Writer(out, frame_shape=(16, 16, 3), info=info) as writer:
            writer.add(frames)
        with pytest.raises(DataError, match=origin):
            record(config(out))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_by_a_signal_it_keeps_all_whole_episodes_and_goes_on(tmp_path, number):
    out = tmp_path / "data"
    script = ("import sys; sys.path.insert(0, sys.argv[1])\n"
              "from wakedream.environments.record import record\n"
              "from wakedream.errors import Interrupted\n"
              "from wakedream.environments.config import RecordConfig\n"
              "if __name__ == '__main__':\n"
              "    try:\n"
              "        record(RecordConfig('toy_world:ToySlow-v0', sys.argv[2], int(sys.argv[3])))\n"
              "    except Interrupted as stopped:\n"
              "        print(stopped); sys.exit(128 + stopped.signal)\n")
    (tmp_path / "script.py").write_text(script)
    command = [sys.executable, str(tmp_path / "script.py"), str(HERE), str(out)]
    environ = {"PYTHONPATH": str(HERE.parents[1])}
    process = subprocess.Popen([*command, "100000"], stdout=subprocess.PIPE, text=True, env=environ,
                               start_new_session=True)
    deadline = time.monotonic() + 60
    while not (out / ".lock").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1.5)  # some episodes of a fifth of a second
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # Ctrl-C reaches all processes of a terminal
    else:
        process.send_signal(number)
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert "run the same command again to go on" in said
    kept = Store.open(out)
    assert len(kept.episodes) >= 2
    assert all(info.frames == 21 and info.terminated for info in kept.episodes)
    again = subprocess.run([*command, str(kept.frames() + 30)], env=environ, timeout=60)
    assert again.returncode == 0
    grown = Store.open(out)
    assert [info.info["episode"] for info in grown.episodes] == list(range(len(kept.episodes) + 2))
    sums = [[info.frames_sha256 for info in store.episodes] for store in (kept, grown)]
    assert sums[1][:-2] == sums[0]
    assert not grown.verify()


def test_what_an_environment_raises_is_named_and_whole_episodes_stay(tmp_path):
    with pytest.raises(DataError, match=r"ToyRaising-v0 failed \(episode 0\): ZeroDivisionError: the toy"):
        record(config(tmp_path / "data", env="toy_world:ToyRaising-v0"))
    assert not (tmp_path / "data").exists()
    with pytest.raises(RunError, match=r"ended with exit code -9"):
        record(config(tmp_path / "data", env="toy_world:ToyDying-v0"))


def test_unknown_names_say_what_there_is(tmp_path):
    with pytest.raises(ConfigError, match=r"did you mean 'crafter'\?.*coinrun"):
        environment("craftr")
    with pytest.raises(ConfigError, match=r"Gymnasium cannot make the environment 'NoSuch-v0'"):
        environment("NoSuch-v0").make(None)
    with pytest.raises(MissingExtraError, match=r"'no_such_module', which cannot be imported"):
        environment("no_such_module:Any-v0").make(None)
    name, env = toy()
    with pytest.raises(ConfigError, match=r"unknown policy for .*'scripted'.*Known: random, sticky"):
        make_policy("scripted", name, env, np.random.default_rng(0))
    with pytest.raises(ConfigError, match=r"unknown policy"):
        record(config(tmp_path / "data", policy="scripted"))


def test_a_known_command_can_be_played_and_the_first_does_nothing():
    assert commanded() == ["crafter", "coinrun", "doorkey", "doom", "doorkey5"]
    for name, choices in (("crafter", 17), ("coinrun", 15), ("doorkey", 7), ("doorkey5", 7), ("doom", 4)):
        known = environment(name)
        assert known.still == next(iter(known.commands)) == "noop"
        assert len(known.commands) > 2 and len(set(known.names.values())) == len(known.names)
        assert all(0 <= action < choices for action in known.names.values())
        assert known.hold >= 1
    unknown = environment("toy_world:ToyPainter-v0")
    assert (unknown.commands, unknown.still, unknown.installed) == ({}, None, True)


def test_an_environment_is_installed_if_all_that_it_needs_is(monkeypatch):
    for package in ("gymnasium", "json"):
        known = Environment(lambda size: None, package=package)
        assert known.installed
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, package, None)
            assert not known.installed
    assert not Environment(lambda size: None, package="no_such_module").installed


def test_coinrun_is_played_to_the_right_or_with_every_move():
    def played(policy):
        seeds, frame = np.random.SeedSequence(0).spawn(200), np.zeros((64, 64, 3), np.uint8)
        players = (make_policy(policy, "coinrun", None, np.random.default_rng(seed)) for seed in seeds)
        return np.bincount([player(frame) for player in players for _ in range(60)], minlength=15) / (200 * 60)

    to_the_right, every = played("scripted"), played("varied")
    assert to_the_right[[7, 8]].sum() > 0.85
    assert (every[[1, 2, 4, 5, 7, 8]] > 0.04).all()
    assert every[[7, 8]].sum() > 0.6


def test_a_missing_extra_is_named(monkeypatch):
    for module, name, extra in (("crafter", "crafter", "crafter"), ("envpool", "coinrun", "coinrun"),
                                ("minigrid", "doorkey", "minigrid"), ("mujoco", "swingup", "swingup"),
                                ("gymnasium", "crafter", "crafter")):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, module, None)
            with pytest.raises(MissingExtraError, match=rf"pip install 'wakedream\[{extra}\]'"):
                environment(name).make(None)


@pytest.mark.parametrize("wrong", [{"frames": 0}, {"processes": 0}, {"size": "4"}, {"held_out": 1.0},
                                   {"env": ""}, {"max_episode_frames": 1}, {"seed": -1}])
def test_impossible_options_are_refused(tmp_path, wrong):
    with pytest.raises(ConfigError, match="expected"):
        config(tmp_path, **wrong)


def test_recording_loads_no_torch():
    code = ("import sys, wakedream.environments.record, wakedream.environments.play\n"
            "assert not {'torch', 'gymnasium', 'crafter', 'mujoco'} & set(sys.modules)")
    subprocess.run([sys.executable, "-c", code], check=True, cwd=HERE.parents[1])
