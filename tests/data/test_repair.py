import builtins
import errno
import json
from itertools import islice

import numpy as np
import pytest
from making import SHAPE, SPEC, episode, flip, frames_position, make_store, same

from wakedream.data import shard as shard_file
from wakedream.data.config import InspectConfig
from wakedream.data.inspect import inspect_data
from wakedream.data.loader import Loader
from wakedream.data.repair import repair_data
from wakedream.data.store import Store, StoreWriter
from wakedream.errors import ConfigError, DataError, RunError, UnreadableError

LENGTHS = [40, 20, 17, 64, 33, 16]


@pytest.fixture
def made(tmp_path):
    return tmp_path / "d", make_store(tmp_path / "d", LENGTHS)


def intact(folder, episodes, dropped):
    """Exactly the dropped episodes are gone, all others are what they were."""
    store = Store.open(folder)
    assert [info.id for info in store.episodes] == [i for i in range(len(episodes)) if i not in dropped]
    assert all(same(store.read(info.id), episodes[info.id]) for info in store.episodes)
    assert store.verify() == []
    assert store.manifest.stored_bytes == sum(p.stat().st_size for p in (folder / "shards").iterdir())


def test_a_flipped_byte_in_frames_is_found_located_and_only_its_episode_dropped(made):
    folder, episodes = made
    path, position = frames_position(Store.open(folder), 2)
    flip(path, position + 30)
    store = Store.open(folder)
    assert [(d.shard, d.episode) for d in store.verify()] == [(0, 2)]
    with pytest.raises(DataError, match=r"episode 2 .*--repair"):
        store.read(2)
    assert same(store.read(1), episodes[1])
    with pytest.raises(DataError, match="damaged frames"):
        inspect_data(InspectConfig(str(folder)))
    assert any("episode 2" in line and "17 frames" in line for line in repair_data(folder))
    intact(folder, episodes, {2})
    assert repair_data(folder) == []


def test_any_flipped_byte_of_a_shard_is_found_and_repaired(made):
    folder, episodes = made
    path = folder / "shards" / "000001.safetensors"
    whole, manifest = path.read_bytes(), (folder / "manifest.json").read_bytes()
    for position in range(3, len(whole), len(whole) // 23):
        path.write_bytes(whole)
        (folder / "manifest.json").write_bytes(manifest)
        flip(path, position)
        damages = Store.open(folder).verify()
        assert {damage.shard for damage in damages} == {1}, position
        repair_data(folder)
        left = {info.id for info in Store.open(folder).episodes}
        assert left >= {0, 1, 2, 3}
        intact(folder, episodes, set(range(len(LENGTHS))) - left)


def test_a_missing_shard_costs_its_episodes(made):
    folder, episodes = made
    (folder / "shards" / "000000.safetensors").unlink()
    store = Store.open(folder)
    with pytest.raises(DataError, match="is missing"):
        store.read(0)
    with pytest.raises(DataError, match="is missing"):
        StoreWriter(folder, SPEC, frame_shape=SHAPE)
    lost = {info.id for info in store.episodes if info.shard == 0}
    assert lost
    assert lost != set(range(6))
    repair_data(folder)
    intact(folder, episodes, lost)


def test_a_shard_cut_short_or_overwritten_costs_no_other(made):
    folder, episodes = made
    path = folder / "shards" / "000001.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    lost = {info.id for info in Store.open(folder).episodes if info.shard == 1}
    assert {d.shard for d in Store.open(folder).verify()} == {1}
    repair_data(folder)
    intact(folder, episodes, lost)
    assert not path.exists()


@pytest.mark.parametrize("text", [None, "{", json.dumps({"format": "wakedream-data", "version": 1})])
def test_a_lost_manifest_is_made_again(made, text):
    folder, episodes = made
    fingerprint = Store.open(folder).fingerprint
    (folder / "manifest.json").unlink()
    if text:
        (folder / "manifest.json").write_text(text)
    assert "made again" in repair_data(folder)[0]
    intact(folder, episodes, set())
    assert Store.open(folder).fingerprint == fingerprint


def test_what_was_repaired_goes_on(made):
    folder, _ = made
    path, position = frames_position(Store.open(folder), 5)
    flip(path, position + 9)
    repair_data(folder)
    with StoreWriter(folder, SPEC, frame_shape=SHAPE) as writer:
        writer.add(episode(12, 9))
    store = Store.open(folder)
    assert "episode 5" in store.manifest.dropped[0]
    assert store.frames() == sum(LENGTHS) - 16 + 12


def test_a_repair_that_was_interrupted_is_done_again(made):
    folder, episodes = made
    path, position = frames_position(Store.open(folder), 0)
    flip(path, position + 9)
    manifest = (folder / "manifest.json").read_bytes()
    repair_data(folder)
    (folder / "manifest.json").write_bytes(manifest)  # as if stopped between the shard and the manifest
    assert "episode 0" in repair_data(folder)[0]
    intact(folder, episodes, {0})


def test_nothing_intact_changes_nothing(tmp_path):
    make_store(tmp_path / "d", [20])
    path, position = frames_position(Store.open(tmp_path / "d"), 0)
    flip(path, position + 9)
    before = path.read_bytes()
    with pytest.raises(DataError, match="nothing was changed"):
        repair_data(tmp_path / "d")
    assert path.read_bytes() == before
    with pytest.raises(DataError, match="is not a data set"):
        repair_data(tmp_path)
    with pytest.raises(DataError, match="there is no data set"):
        repair_data(tmp_path / "nowhere")
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


def test_inspect_tells_what_is_there_and_draws_it(made, tmp_path, capsys):
    from PIL import Image

    folder, _ = made
    inspect_data(InspectConfig(str(folder), sheet=str(tmp_path / "sheet.png"), short=18))
    told = capsys.readouterr().out
    for fact in ("190 of 16x24x3", "held_out        1 episode, 20 frames", "move: categorical, 5",
                 "daylight", "2 episodes of fewer than 18 frames: 2, 5", "of raw", "6 episodes whole"):
        assert fact in told, fact
    with Image.open(tmp_path / "sheet.png") as sheet:
        pictures = 12 * (24 * 4 + 2) + 2
        assert sheet.size[0] > pictures and sheet.size[1] == 6 * (16 * 4 + 2) + 2
        labels = np.asarray(sheet)[:, :-pictures].reshape(sheet.size[1], -1)
    rows = [labels[2 + row * 66:66 + row * 66] for row in range(6)]
    assert all((row < 128).any() for row in rows) and not any(np.array_equal(rows[0], row) for row in rows[1:])


def test_a_sheet_that_cannot_be_written_is_refused_first(made, tmp_path, capsys):
    """In the place of what is read, of a folder, or beneath a file."""
    folder, _ = made
    manifest = (folder / "manifest.json").read_bytes()
    (tmp_path / "link.png").symlink_to(folder / "manifest.json")
    (tmp_path / "file").write_text("x")
    (tmp_path / "config.json").write_text("{}")
    for sheet, error, message in (
            (folder / "manifest.json", ConfigError, "of what a data set, a run or weights consist"),
            (tmp_path / "config.json", ConfigError, "of what a data set, a run or weights consist"),
            (tmp_path / "link.png", ConfigError, "is what is read"),
            (folder / "shards" / "000000.safetensors", ConfigError, "of what a data set, a run or weights consist"),
            (folder, ConfigError, "is a folder: give the name of a file"),
            (tmp_path / "file" / "x.png", RunError, "a file is in the way")):
        with pytest.raises(error, match=message):
            inspect_data(InspectConfig(str(folder), sheet=str(sheet)))
    assert (folder / "manifest.json").read_bytes() == manifest
    assert capsys.readouterr().out == ""


def test_what_was_dropped_just_now_was_not_dropped_before(made, capsys):
    folder, _ = made
    for episode_id, before in ((5, 0), (0, 1)):
        path, position = frames_position(Store.open(folder), episode_id)
        flip(path, position + 9)
        inspect_data(InspectConfig(str(folder), repair=True))
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].startswith(f"dropped episode {episode_id}")
        assert len([line for line in lines if line.startswith("dropped before")]) == before
    inspect_data(InspectConfig(str(folder)))
    assert capsys.readouterr().out.count("dropped before") == 2


@pytest.fixture
def unreadable(monkeypatch):
    """Makes the system refuse files to open, as those of another user are; safetensors calls them missing."""
    refused, opened, mapped = set(), builtins.open, shard_file.safe_open

    def refuse(path, *args, **kwargs):
        if str(path) in refused:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, *args, **kwargs)

    def hide(path, **kwargs):
        if str(path) in refused:
            raise FileNotFoundError(f"No such file or directory: {path}")
        return mapped(path, **kwargs)

    monkeypatch.setattr(builtins, "open", refuse)
    monkeypatch.setattr(shard_file, "safe_open", hide)
    return lambda path: refused.add(str(path))


def test_a_shard_that_may_not_be_read_is_neither_missing_nor_repaired(made, unreadable):
    """Not even when another one is damaged, which would be written anew before."""
    folder, _ = made
    path, position = frames_position(Store.open(folder), 0)
    flip(path, position + 9)
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file() and file.name != ".lock"}
    hidden = folder / "shards" / "000001.safetensors"
    unreadable(hidden)
    store = Store.open(folder)
    lost = next(info.id for info in store.episodes if info.shard == 1)
    for call in (lambda: repair_data(folder), lambda: inspect_data(InspectConfig(str(folder), repair=True)),
                 store.verify, lambda: inspect_data(InspectConfig(str(folder))), lambda: store.read(lost)):
        with pytest.raises(UnreadableError, match="is there but cannot be read") as refusal:
            call()
        assert str(hidden) in str(refusal.value)
        assert "--repair" not in str(refusal.value) and "missing" not in str(refusal.value)
    assert hidden.exists() and all(file.read_bytes() == was for file, was in before.items() if file != hidden)
    for cache in (0, 1):
        with pytest.raises(UnreadableError), Loader(store, batch_size=8, length=8, cache_gib=cache) as loader:
            list(islice(loader, 9))  # its windows are not replaced by others


def test_one_that_turns_unreadable_while_it_is_open_is_not_called_damaged(made, unreadable):
    folder, _ = made
    store = Store.open(folder)
    store.read(0)
    unreadable(folder / "shards" / "000000.safetensors")
    with pytest.raises(UnreadableError, match="Permission denied"):
        store.read(0)
