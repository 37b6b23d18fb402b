import json
import os
from functools import partial

import numpy as np
import pytest
from making import cut_film, write_film

from wakedream import runs
from wakedream.data import ingest as ingest_module
from wakedream.data.config import IngestConfig, parse_size
from wakedream.data.ingest import ingest
from wakedream.data.store import Store
from wakedream.data.video import encode_mp4
from wakedream.errors import ConfigError, DataError, RunError


def config(tmp_path, *videos, **kw) -> IngestConfig:
    options = {"size": "16x24", "episode_frames": 12, **kw}
    return IngestConfig(tuple(map(str, videos)), str(tmp_path / "data"), **options)


def test_files_and_folders_become_episodes(tmp_path, capsys):
    folder = tmp_path / "videos"
    write_film(folder / "b.mp4", 30)
    write_film(folder / "deep" / "a.MP4", 5, height=20, width=20)
    (folder / "notes.txt").write_text("not mine")
    (folder / ".hidden.mp4").write_text("not a video")
    single = write_film(tmp_path / "single.mp4", 12)
    ingest(config(tmp_path, single, folder))
    store = Store.open(tmp_path / "data")
    assert store.frame_shape == (16, 24, 3)
    assert [e.frames for e in store.episodes] == [12, 12, 12, 6, 5]
    sources = [os.path.basename(e.info["source"]) for e in store.episodes]
    assert sources == ["single.mp4"] + ["b.mp4"] * 3 + ["a.MP4"]
    assert store.spec.components == ()
    assert not any(e.has_actions for e in store.episodes)
    red = np.concatenate([store.read(i).video[:, 0, -1, 0] for i in (1, 2, 3)]).astype(int)
    assert (np.diff(red) > 0).all()
    told = capsys.readouterr()
    assert "3 videos, 5 episodes, 47 frames" in told.out
    assert "notes.txt" in told.err


def test_bad_videos_are_named_and_the_good_ones_kept(tmp_path, capsys):
    folder = tmp_path / "videos"
    for name in ("a", "c", "e"):
        write_film(folder / f"{name}.mp4", 10)
    (folder / "b.mp4").write_text("not a video" * 50)
    cut_film(folder / "d.mp4")
    (folder / "f.mp4").touch()
    with pytest.raises(DataError, match="3 of 6 videos could not be read") as caught:
        ingest(config(tmp_path, folder))
    for name in ("b.mp4 is not a video", "d.mp4 breaks off after", "f.mp4 is empty", "--skip-bad"):
        assert name in str(caught.value)
    store = Store.open(tmp_path / "data")
    assert store.verify() == []
    assert [e.frames for e in store.episodes] == [10, 10, 10]  # nothing of d, though it begins well
    ingest(config(tmp_path, folder, skip_bad=True))
    assert "3 of 6" in capsys.readouterr().err
    ingest(config(tmp_path, folder, skip_bad=True, keep_truncated=True))
    assert "2 of 6" in capsys.readouterr().err
    assert Store.open(tmp_path / "data").frames() > 30


def test_only_bad_videos_leave_nothing(tmp_path):
    (tmp_path / "b.mp4").write_text("not a video" * 50)
    for skip in (False, True):
        with pytest.raises(DataError, match="Nothing was written"):
            ingest(config(tmp_path, tmp_path / "b.mp4", skip_bad=skip))
    assert [p.name for p in tmp_path.iterdir()] == ["b.mp4"]


def test_it_resumes_without_decoding_again(tmp_path, monkeypatch):
    folder = tmp_path / "videos"
    for name in "abc":
        write_film(folder / f"{name}.mp4", 30)
    decoded, real = [], ingest_module.read_video

    def until_c(path, *args):
        decoded.append(path.name)
        for i, frame in enumerate(real(path, *args)):
            if path.name == "c.mp4" and i == 20 and len(decoded) == 3:
                raise KeyboardInterrupt
            yield frame

    monkeypatch.setattr(ingest_module, "read_video", until_c)
    with pytest.raises(KeyboardInterrupt):
        ingest(config(tmp_path, folder))
    assert [e.frames for e in Store.open(tmp_path / "data").episodes] == [12, 12, 6] * 2
    ingest(config(tmp_path, folder))
    ingest(config(tmp_path, folder))
    assert decoded == ["a.mp4", "b.mp4", "c.mp4", "c.mp4"]
    assert [e.frames for e in Store.open(tmp_path / "data").episodes] == [12, 12, 6] * 3


def test_parts_written_before_a_kill_are_not_written_twice(tmp_path):
    """Killed between two shards of one video: the folder has its first parts and no manifest."""
    path = write_film(tmp_path / "a.mp4", 60)
    ingest(config(tmp_path, path))
    whole = [Store.open(tmp_path / "data").read(i) for i in range(5)]
    runs.remove(tmp_path / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ingest_module, "StoreWriter", partial(ingest_module.StoreWriter, shard_frames=24))
        ingest(config(tmp_path, path))
        for name in ("manifest.json", "shards/000001.safetensors", "shards/000002.safetensors"):
            (tmp_path / "data" / name).unlink()
        ingest(config(tmp_path, path))
    store = Store.open(tmp_path / "data")
    assert [e.info["first_frame"] for e in store.episodes] == [0, 12, 24, 36, 48]
    assert all(np.array_equal(store.read(i).video, whole[i].video) for i in range(5))


def test_other_options_or_a_changed_file_are_told(tmp_path):
    path = write_film(tmp_path / "a.mp4", 30)
    ingest(config(tmp_path, path))
    with pytest.raises(DataError, match="same options"):
        ingest(config(tmp_path, path, fit="pad"))
    with pytest.raises(DataError, match="same options"):
        ingest(config(tmp_path, path, size="8"))
    write_film(path, 20)
    with pytest.raises(DataError, match="has changed since"):
        ingest(config(tmp_path, path))
    assert Store.open(tmp_path / "data").frames() == 30


def test_what_cannot_begin_leaves_nothing(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        ingest(config(tmp_path, tmp_path / "none.mp4"))
    (tmp_path / "videos").mkdir()
    with pytest.raises(DataError, match="no videos in"):
        ingest(config(tmp_path, tmp_path / "videos"))
    path = write_film(tmp_path / "a.mp4", 3)
    with runs.locked(tmp_path / "other"), pytest.raises(RunError, match="in use"):
        ingest(IngestConfig((str(path),), str(tmp_path / "other")))
    assert not (tmp_path / "data").exists()
    for text in ("", "64x", "0", "12x-3", "64x64x3", "9999"):
        with pytest.raises(ConfigError, match="--size"):
            config(tmp_path, path, size=text)
    assert parse_size("128x96") == (128, 96)


def test_a_full_disk_stops_and_the_same_command_goes_on(tmp_path, monkeypatch):
    """Simulated: the flush of every file fails as on a full disk."""
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    path = write_film(tmp_path / "a.mp4", 30)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(RunError, match="no space left"):
            ingest(config(tmp_path, path))
    assert not [p for p in (tmp_path / "data").rglob("*") if p.is_file() and p.name != ".lock"]
    ingest(config(tmp_path, path))
    assert Store.open(tmp_path / "data").frames() == 30


CHANGE = (-30, 0, 30)  # what each choice adds to the brightness


def write_play(path, frames=30, seed=0, fps=10, **about):
    """A video whose brightness is changed by each action, and the actions beside it."""
    rng = np.random.default_rng(seed)
    level, levels, moves = 120, [120], [None]
    for _ in range(frames - 1):
        moves.append(int(rng.choice([i for i in range(3) if 30 <= level + CHANGE[i] <= 220])))
        level += CHANGE[moves[-1]]
        levels.append(level)
    path.parent.mkdir(parents=True, exist_ok=True)
    video = np.broadcast_to(np.array(levels, np.uint8)[:, None, None, None], (frames, 32, 48, 3))
    path.write_bytes(encode_mp4(np.ascontiguousarray(video), fps))
    return path, write_actions(path, moves, **about)


def write_actions(video, moves, size=3, **about):
    path = video.with_suffix(".actions.json")
    components = [{"name": "move", "kind": "categorical", "size": size}]
    path.write_text(json.dumps({"components": components, "actions": {"move": moves}, **about}))
    return path


def explains(video, moves, has_action):
    """Whether each known action made of the frame before the frame that it stands beside."""
    level = video.astype(int).mean((1, 2, 3))
    steps = np.array(CHANGE)[moves]
    return bool((abs(np.diff(level) - steps[1:]) < 10)[has_action[1:]].all())


def test_actions_beside_a_video_stand_beside_the_frames_they_led_into(tmp_path, capsys):
    folder = tmp_path / "videos"
    write_play(folder / "a.mp4", 30, rewards=[0] * 29 + [7], terminated=True)
    write_film(folder / "b.mp4", 20)
    write_play(folder / "c.mp4", 12, seed=1)
    (folder / "d.actions.json").write_text("{}")
    ingest(config(tmp_path, folder))
    store = Store.open(tmp_path / "data")
    assert [(e.frames, e.has_actions, e.terminated) for e in store.episodes] == [
        (12, True, False), (12, True, False), (6, True, True), (12, False, False), (8, False, False), (12, True, False)]
    for info in store.episodes:
        episode = store.read(info.id)
        assert episode.has_action.tolist() == [False, *[info.has_actions] * (info.frames - 1)]
        if info.has_actions:
            moves = episode.actions["move"]
            assert explains(episode.video, moves, episode.has_action)
            assert not explains(episode.video, np.append(moves[1:], 1), episode.has_action)
            assert not explains(episode.video, np.insert(moves[:-1], 0, 1), episode.has_action)
    assert store.read(2).rewards.tolist() == [0, 0, 0, 0, 0, 7]
    told = capsys.readouterr()
    assert "4 episodes with actions" in told.out
    assert "1 action files passed over, no video of that name is beside them: d.actions.json" in told.err
    assert "a.actions.json" not in told.err


def test_unknown_actions_are_unknown(tmp_path):
    path, beside = write_play(tmp_path / "a.mp4", 12)
    moves = json.loads(beside.read_text())["actions"]["move"]
    write_actions(path, [*moves[:4], None, None, *moves[6:]])
    ingest(config(tmp_path, path, beside))  # a pattern of the shell may name the actions too
    episode = Store.open(tmp_path / "data").read(0)
    assert episode.has_action.tolist() == [False, True, True, True, False, False, *[True] * 6]
    assert explains(episode.video, episode.actions["move"], episode.has_action)


def test_bad_actions_make_a_bad_video_and_say_why(tmp_path):
    folder = tmp_path / "videos"
    write_play(folder / "a.mp4")
    for name, moves, options in (("short", [None] * 29, {}), ("long", [None] * 31, {}), ("range", [None, 3] * 15, {}),
                                 ("spec", [None] * 30, {"size": 4})):
        write_actions(write_film(folder / f"{name}.mp4"), moves, **options)
    write_film(folder / "broken.mp4").with_suffix(".actions.json").write_text("{")
    with pytest.raises(DataError, match="5 of 6 videos could not be read") as caught:
        ingest(config(tmp_path, folder))
    for told in ("short.actions.json has 29 entries, ", "short.mp4 has 30 frames: expected one entry for each frame",
                 "long.actions.json has 31 entries", "range.actions.json: action component 'move', frame 1: got 3",
                 "spec.actions.json has the action component 'move' with size 4, expected 3 as in the rest of",
                 "broken.actions.json is not JSON"):
        assert told in str(caught.value)
    store = Store.open(tmp_path / "data")
    assert [os.path.basename(e.info["source"]) for e in store.episodes] == ["a.mp4"] * 3
    write_actions(folder / "short.mp4", [None] * 30)
    ingest(config(tmp_path, folder, skip_bad=True))
    assert Store.open(tmp_path / "data").frames() == 60
    assert store.verify() == []


def test_actions_are_not_kept_at_another_frame_rate(tmp_path):
    folder = tmp_path / "videos"
    write_play(folder / "a.mp4", 150, fps=20)
    write_film(folder / "b.mp4", 12)
    for fps in (10.0, 40.0):
        with pytest.raises(DataError, match=rf"a.mp4 has 20 frames/s and actions .* at --fps {fps:g} frames are left"):
            ingest(IngestConfig((str(folder),), str(tmp_path / f"at{fps:g}"), fps=fps))
    ingest(config(tmp_path, folder, fps=20.15, episode_frames=200))  # nearly its own: a as it is; b repeats frames
    store = Store.open(tmp_path / "data")
    assert [e.frames for e in store.episodes] == [150, 23]
    assert explains(store.read(0).video, store.read(0).actions["move"], store.read(0).has_action)


def test_ingesting_with_actions_goes_on_and_tells_what_has_changed(tmp_path):
    path, beside = write_play(tmp_path / "a.mp4", 60)
    ingest(config(tmp_path, path))
    whole = [Store.open(tmp_path / "data").read(i) for i in range(5)]
    runs.remove(tmp_path / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ingest_module, "StoreWriter", partial(ingest_module.StoreWriter, shard_frames=24))
        ingest(config(tmp_path, path))
        for name in ("manifest.json", "shards/000001.safetensors", "shards/000002.safetensors"):
            (tmp_path / "data" / name).unlink()
        film = write_film(tmp_path / "0.mp4", 5)  # comes first, has no actions; the spec is that of the data set
        ingest(config(tmp_path, film, path))
    store = Store.open(tmp_path / "data")
    assert [e.info["first_frame"] for e in store.episodes] == [0, 12, 0, 24, 36, 48]
    for i, expected in zip((0, 1, 3, 4, 5), whole, strict=True):
        assert np.array_equal(store.read(i).actions["move"], expected.actions["move"])
        assert np.array_equal(store.read(i).has_action, expected.has_action)
    write_actions(path, [None] * 60)
    with pytest.raises(DataError, match="a.actions.json has changed since .*a.mp4 was ingested"):
        ingest(config(tmp_path, path))
    beside.unlink()
    with pytest.raises(DataError, match="a.actions.json has changed since .*a.mp4 was ingested"):
        ingest(config(tmp_path, path))
    write_actions(film, [None] * 5)
    with pytest.raises(DataError, match="0.actions.json has changed since .*0.mp4 was ingested"):
        ingest(config(tmp_path, film))


def test_a_data_set_without_actions_stays_one(tmp_path):
    film = write_film(tmp_path / "a.mp4", 12)
    ingest(config(tmp_path, film))
    path, _ = write_play(tmp_path / "b.mp4", 12)
    with pytest.raises(DataError, match=r"the action components \['move'\], expected \[\] as in the rest"):
        ingest(config(tmp_path, film, path))
    assert Store.open(tmp_path / "data").frames() == 12
