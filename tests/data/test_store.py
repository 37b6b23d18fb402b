import os
import signal
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from making import SHAPE, SPEC, episode, make_store, same

from wakedream.data import shard
from wakedream.data.actions import ActionSpec
from wakedream.data.episode import Episode
from wakedream.data.manifest import is_held_out
from wakedream.data.store import Store, StoreWriter
from wakedream.errors import DataError, RunError

LENGTHS = [40, 1, 17, 64, 33, 16]


def test_any_window_comes_back_bit_for_bit(tmp_path):
    episodes = make_store(tmp_path / "d", LENGTHS)
    store = Store.open(tmp_path / "d")
    assert (store.spec, store.frame_shape, store.extras) == (SPEC, SHAPE, ("daylight",))
    assert [info.frames for info in store.episodes] == LENGTHS
    assert len(store.manifest.shards) == 2
    for number, truth in enumerate(episodes):
        t = len(truth.video)
        for start in range(0, t, 5):
            for stop in {start + 1, min(t, start + 18), t}:
                assert same(store.read(number, start, stop), truth, start, stop)
    assert store.verify() == []


def test_threads_may_share_a_store(tmp_path):
    episodes = make_store(tmp_path / "d", LENGTHS)
    store = Store.open(tmp_path / "d")
    with ThreadPoolExecutor(4) as pool:
        reads = [(n, pool.submit(store.read, n)) for _ in range(20) for n in range(len(LENGTHS))]
        assert all(same(read.result(), episodes[n]) for n, read in reads)


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.3, 1 / 3, 0.5, 0.75])
def test_the_split_is_by_episode_even_and_does_not_depend_on_what_comes_later(fraction):
    held = [i for i in range(2000) if is_held_out(i, fraction)]
    assert held[0] == 1
    assert abs(len(held) - 2000 * fraction) <= 1
    assert not any(is_held_out(i, 0) for i in range(100))


def test_the_split_follows_no_rhythm():
    held = np.array([i for i in range(4000) if is_held_out(i, 0.1)])
    for period in (2, 4, 10):
        counts = np.bincount(held % period, minlength=period)
        assert counts.min() > 0.6 * counts.mean()


def test_two_episodes_have_one_held_out_and_no_frame_is_in_both(tmp_path):
    make_store(tmp_path / "d", [8, 9])
    store = Store.open(tmp_path / "d")
    assert [e.id for e in store.split("train")] == [0]
    assert [e.id for e in store.split("held_out")] == [1]
    assert store.frames("train") + store.frames("held_out") == store.frames() == 17
    with pytest.raises(DataError, match="expected train or held_out"):
        store.split("test")


def test_the_fingerprint_is_of_the_content_not_of_the_shards(tmp_path):
    make_store(tmp_path / "a", LENGTHS, shard_frames=1000)
    make_store(tmp_path / "b", LENGTHS, shard_frames=20)
    make_store(tmp_path / "c", [40, 1, 17, 64, 33, 15])
    a, b, c = (Store.open(tmp_path / name).fingerprint for name in "abc")
    assert a == b != c


def test_a_writer_goes_on_where_one_ended(tmp_path):
    episodes = make_store(tmp_path / "d", LENGTHS[:3])
    with StoreWriter(tmp_path / "d", SPEC, frame_shape=SHAPE) as writer:
        assert (writer.num_episodes, writer.frames) == (3, sum(LENGTHS[:3]))
        episodes.append(episode(20, 7))
        writer.add(episodes[-1])
    store = Store.open(tmp_path / "d")
    assert all(same(store.read(n), truth) for n, truth in enumerate(episodes))


def add(writer, *episodes):
    for each in episodes:
        writer.add(each)


def interrupted(path):
    with StoreWriter(path, SPEC, frame_shape=SHAPE) as writer:
        writer.add(episode(20, 0))
        raise KeyboardInterrupt


def test_an_error_keeps_what_was_added(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        interrupted(tmp_path / "d")
    assert Store.open(tmp_path / "d").frames() == 20


def test_a_killed_writer_loses_no_written_shard(tmp_path):
    folder, script = tmp_path / "d", textwrap.dedent("""
        import os, signal, sys
        from making import *
        writer = StoreWriter(sys.argv[1], SPEC, frame_shape=SHAPE, shard_frames=50)
        for seed in range(5):
            writer.add(episode(30, seed))
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    here = Path(__file__).parent
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here), str(here.parents[1])])}
    done = subprocess.run([sys.executable, "-c", script, str(folder)], env=environ)
    assert done.returncode == -signal.SIGKILL
    with pytest.raises(DataError, match="was interrupted"):
        Store.open(folder)
    (folder / "shards" / ".000002.safetensors.partial").write_bytes(b"half a shard")
    with StoreWriter(folder, SPEC, frame_shape=SHAPE, shard_frames=50) as writer:
        assert writer.num_episodes == 4  # the fifth waited in memory
        for seed in range(writer.num_episodes, 6):
            writer.add(episode(30, seed))
    store = Store.open(folder)
    assert all(same(store.read(seed), episode(30, seed)) for seed in range(6))
    shards = sorted(p.name for p in (folder / "shards").iterdir())
    assert shards == [f"00000{i}.safetensors" for i in range(3)]


def test_all_or_nothing_takes_back_what_an_error_left(tmp_path):
    with StoreWriter(tmp_path / "d", SPEC, frame_shape=SHAPE, shard_frames=30) as writer:
        writer.add(episode(20, 0))
        some = [episode(20, seed) for seed in range(1, 5)]
        with pytest.raises(DataError, match="uint8"), writer.all_or_nothing():
            add(writer, *some, Episode.of_video(np.zeros(3)))
        assert (writer.num_episodes, writer.frames) == (1, 20)
        with writer.all_or_nothing():
            add(writer, *some)
    store = Store.open(tmp_path / "d")
    assert [len(store.read(i).video) for i in range(5)] == [20] * 5
    assert [s.frames for s in store.manifest.shards] == [40, 40, 20]


def test_an_empty_data_set_leaves_nothing(tmp_path):
    with StoreWriter(tmp_path / "d", SPEC, frame_shape=SHAPE):
        pass
    assert not (tmp_path / "d").exists()


def test_other_options_do_not_mix_into_a_data_set(tmp_path):
    make_store(tmp_path / "d", [8, 9])
    for kw in ({"spec": ActionSpec()}, {"frame_shape": (8, 8, 3)}, {"held_out": 0.5}):
        options = {"spec": SPEC, "frame_shape": SHAPE, **kw}
        with pytest.raises(DataError, match="use the same options, or choose another --out"):
            StoreWriter(tmp_path / "d", **options)
    wrong = episode(4, 0)
    wrong.video = wrong.video[:, :8]
    with StoreWriter(tmp_path / "d", SPEC, frame_shape=SHAPE) as writer, \
            pytest.raises(DataError, match="height, width, channels"):
        writer.add(wrong)


def test_a_folder_in_use_or_of_something_else_is_refused(tmp_path):
    with StoreWriter(tmp_path / "d", SPEC, frame_shape=SHAPE) as writer:
        writer.add(episode(4, 0))
        with pytest.raises(RunError, match="in use by another run"):
            StoreWriter(tmp_path / "d", SPEC, frame_shape=SHAPE)
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "thesis.tex").touch()
    with pytest.raises(DataError, match=r"no data set \(it holds thesis.tex\)"):
        StoreWriter(tmp_path / "e", SPEC, frame_shape=SHAPE)
    assert [p.name for p in (tmp_path / "e").iterdir()] == ["thesis.tex"]


def test_a_full_disk_is_told_and_what_was_complete_stays(tmp_path, monkeypatch):
    """No real full disk: the write of the second shard is made to fail as one would."""
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    writer = StoreWriter(tmp_path / "d", SPEC, frame_shape=SHAPE, shard_frames=30)
    writer.add(episode(30, 0))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(RunError, match="no space left"), writer:
            writer.add(episode(30, 1))
    assert [p.name for p in (tmp_path / "d" / "shards").iterdir()] == ["000000.safetensors"]
    with StoreWriter(tmp_path / "d", SPEC, frame_shape=SHAPE) as writer:
        assert writer.num_episodes == 1


def test_what_is_no_data_set_is_told(tmp_path):
    with pytest.raises(DataError, match="there is no data set at"):
        Store.open(tmp_path / "nowhere")
    with pytest.raises(DataError, match="is not a data set"):
        Store.open(tmp_path)
    make_store(tmp_path / "d", [8])
    manifest = tmp_path / "d" / "manifest.json"
    text = manifest.read_text()
    manifest.write_text(text.replace('"version": 2', '"version": 3'))
    with pytest.raises(DataError, match="has version 3, this wakedream reads 1 and 2"):
        Store.open(tmp_path / "d")
    manifest.write_text(text[:100])
    with pytest.raises(DataError, match="--repair"):
        Store.open(tmp_path / "d")


def test_a_data_set_that_is_being_made_is_told_as_such(tmp_path):
    """By another process; before its first shard as after."""
    folder = tmp_path / "d"
    with StoreWriter(folder, SPEC, frame_shape=SHAPE) as writer:
        for message in ("is not a data set", "was interrupted"):  # this process knows of itself
            with pytest.raises(DataError, match=message):
                Store.open(folder)
            (folder / ".lock").write_text("4711")
            with pytest.raises(DataError, match=r"is being recorded or ingested \(process 4711\): wait"):
                Store.open(folder)
            (folder / ".lock").write_text(str(os.getpid()))
            writer.add(episode(8, 0))
            writer.flush()
    assert Store.open(folder).frames() == 16


def test_a_manifest_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    make_store(tmp_path / "d", [8])

    def refuse(path, **_):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(DataError, match=r"manifest\.json cannot be read \(Permission denied\)"):
        Store.open(tmp_path / "d")


def test_the_writer_checks_episodes(tmp_path):
    with StoreWriter(tmp_path / "d", SPEC, frame_shape=SHAPE) as writer:
        for name, value in {"rewards": np.zeros(3, np.float32), "video": np.zeros((8, *SHAPE), np.float32),
                            "has_action": np.ones(8, bool), "info": {"a": np.zeros(2)}}.items():
            wrong = episode(8, 0)
            setattr(wrong, name, value)
            with pytest.raises(DataError):
                writer.add(wrong)
    assert shard.CHUNK_FRAMES == 16  # the lengths of these tests cross chunks


def test_what_is_printed_says_what_it_is(tmp_path):
    made = make_store(tmp_path / "d", [20, 30])
    store = Store.open(tmp_path / "d")
    assert repr(store) == (f"Store({tmp_path / 'd'}: 2 episodes, 50 frames of 16x24x3, "
                           "actions move (categorical, 5), arm (continuous, 2))")
    assert repr(store.read(1)) == (f"Episode(30 frames of 16x24x3; actions move, arm; return "
                                   f"{made[1].rewards.sum():.4g}; terminated; events hit; extras daylight)")
    assert repr(Episode.of_video(made[0].video, ActionSpec())) == (
        "Episode(20 frames of 16x24x3; actions none; rewards not known; truncated)")


def test_an_episode_that_there_is_not(tmp_path):
    make_store(tmp_path / "d", [20, 30])
    store = Store.open(tmp_path / "d")
    for call in (store.read, store.video, store.columns, store.actions):
        for wrong in (99999, -1):
            with pytest.raises(DataError, match=rf"no episode {wrong!r}: its 2 episodes are numbered 0 to 1; "):
                call(wrong)
