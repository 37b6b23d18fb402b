"""What a path stands for: files and folders by whatever name and link, folders of images; each file once."""

import json
import os
import signal

import numpy as np
import pytest
from making import film, write_film
from PIL import Image
from test_ingest import config

from wakedream.data import ingest as ingest_module
from wakedream.data.actions import ActionSpec
from wakedream.data.episode import Episode
from wakedream.data.ingest import find_videos, ingest
from wakedream.data.manifest import FILE
from wakedream.data.store import Store
from wakedream.data.writer import StoreWriter
from wakedream.errors import DataError, Interrupted


def names(tmp_path, *paths):
    return [str(file.relative_to(tmp_path)) for file in find_videos(tuple(str(tmp_path / path) for path in paths))[0]]


def test_links_are_followed_and_those_to_nothing_told(tmp_path, capsys):
    write_film(tmp_path / "disk" / "day" / "a.mp4", 3)
    write_film(tmp_path / "videos" / "own" / "c.mp4", 3)
    (tmp_path / "videos" / "linked").symlink_to(tmp_path / "disk")
    (tmp_path / "videos" / "own" / "back").symlink_to(tmp_path / "videos")  # no end, if it were followed
    (tmp_path / "videos" / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    assert names(tmp_path, "videos") == ["videos/linked/day/a.mp4", "videos/own/c.mp4"]
    ingest(config(tmp_path, tmp_path / "videos"))
    told = capsys.readouterr()
    assert "2 videos" in told.out and "gone.mp4" in told.err


def test_a_file_is_taken_once_whatever_it_is_called_by(tmp_path, monkeypatch):
    for day in ("one", "two"):
        write_film(tmp_path / day / "videos" / "a.mp4", 12, height=32 if day == "one" else 48)
    for day in ("one", "two"):
        monkeypatch.chdir(tmp_path / day)
        ingest(config(tmp_path, "videos"))
    assert Store.open(tmp_path / "data").frames() == 24
    (tmp_path / "link").symlink_to(tmp_path / "one")
    assert names(tmp_path, "one/videos", "one/videos/../videos/a.mp4", "link/videos") == ["one/videos/a.mp4"]
    for again in (tmp_path / "one" / "videos", "../one/videos/a.mp4", tmp_path / "link"):
        ingest(config(tmp_path, again))
    assert Store.open(tmp_path / "data").frames() == 24


def test_a_data_set_that_knows_its_files_by_relative_names_goes_on(tmp_path, monkeypatch):
    """As they were written before names were resolved."""
    write_film(tmp_path / "a.mp4", 12)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ingest_module, "source_of", str)
    ingest(config(tmp_path, "a.mp4"))
    assert Store.open(tmp_path / "data").episodes[0].info["source"] == "a.mp4"
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    ingest(config(tmp_path, "a.mp4"))
    assert Store.open(tmp_path / "data").frames() == 12


def test_names_with_colons_and_bytes_that_are_no_text(tmp_path, monkeypatch):
    (tmp_path / "videos").mkdir()
    monkeypatch.chdir(tmp_path / "videos")
    write_film(tmp_path / "videos" / "10:30:45.mp4", 12)
    write_film(tmp_path / "videos" / "b.mp4", 12)
    os.rename(b"b.mp4", b"caf\xe9.mp4")
    ingest(config(tmp_path, "10:30:45.mp4", "."))
    store = Store.open(tmp_path / "data")
    assert store.frames() == 24 and store.verify() == []
    assert {os.path.basename(e.info["source"]) for e in store.episodes} == {"10:30:45.mp4", "caf\\xe9.mp4"}
    ingest(config(tmp_path, "."))
    assert Store.open(tmp_path / "data").frames() == 24


@pytest.mark.parametrize("name", ["00001.MTS", "a.vob", "a.asf", "a.f4v", "a.mxf"])
def test_videos_of_cameras_and_players_are_found_by_their_names(tmp_path, name):
    write_film(tmp_path / "videos" / name, 3)
    assert names(tmp_path, "videos") == [f"videos/{name}"]


def write_images(folder, count=12, suffix=".png"):
    folder.mkdir(parents=True)
    for i, frame in enumerate(film(count)):
        Image.fromarray(frame).save(folder / f"frame{i}{suffix}", **({"quality": 95} if suffix == ".jpg" else {}))


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_folder_of_images_is_a_video(tmp_path, suffix):
    """In the order of their numbers, without leading zeros too; one image, and images beside a video, are none."""
    write_images(tmp_path / "all" / "one", 12, suffix)
    write_images(tmp_path / "all" / "two" / "deep", 3, suffix)
    write_images(tmp_path / "all" / "single", 1, suffix)
    write_images(tmp_path / "all" / "film", 2, suffix)
    write_film(tmp_path / "all" / "film" / "b.mp4", 5)
    ingest(config(tmp_path, tmp_path / "all", size="48x64"))
    store = Store.open(tmp_path / "data")
    assert [episode.frames for episode in store.episodes] == [5, 12, 3]
    assert np.abs(store.read(1).video.astype(int) - film(12)).mean() < 3
    with pytest.raises(DataError, match="one holds images, which have no times: leave --fps 5 away"):
        ingest(config(tmp_path / "other", tmp_path / "all" / "one", fps=5))
    moves = {"components": [{"name": "move", "kind": "categorical", "size": 3}], "actions": {"move": [0] * 12}}
    (tmp_path / "all" / "one.actions.json").write_text(json.dumps(moves))
    with pytest.raises(DataError, match="one holds images, which have no times: leave --fps 5 away"):
        ingest(config(tmp_path / "acted", tmp_path / "all" / "one", fps=5))
    (tmp_path / "all" / "one.actions.json").unlink()
    (tmp_path / "all" / "one" / f"frame5{suffix}").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"frame5.* cannot be read"):
        ingest(config(tmp_path / "other", tmp_path / "all" / "one"))


def test_a_video_that_vanishes_is_one_bad_video(tmp_path, monkeypatch):
    for name in "abc":
        write_film(tmp_path / "videos" / f"{name}.mp4", 10)
    found = find_videos

    def find(paths):
        files = found(paths)
        (tmp_path / "videos" / "b.mp4").unlink()
        return files

    monkeypatch.setattr(ingest_module, "find_videos", find)
    with pytest.raises(DataError, match=r"1 of 3 videos(.|\n)*b.mp4 cannot be read"):
        ingest(config(tmp_path, tmp_path / "videos"))
    assert Store.open(tmp_path / "data").frames() == 20


def test_a_recorded_data_set_is_refused_and_stays_as_it_is(tmp_path):
    spec = ActionSpec()
    with StoreWriter(tmp_path / "data", spec, frame_shape=(16, 24, 3), info={"env": "Squares"}) as writer:
        writer.add(Episode.of_video(film(5, 16, 24), spec))
    before = (tmp_path / "data" / FILE).read_bytes()
    write_film(tmp_path / "a.mp4", 5)
    with pytest.raises(DataError, match="was recorded from Squares, which videos cannot go on with: choose"):
        ingest(config(tmp_path, tmp_path / "a.mp4"))
    assert (tmp_path / "data" / FILE).read_bytes() == before


def test_an_interruption_says_what_is_kept(tmp_path, monkeypatch):
    for name in "ab":
        write_film(tmp_path / f"{name}.mp4", 12)
    read = ingest_module.read_video

    def until_b(path, *rest):
        if path.name == "b.mp4":
            raise KeyboardInterrupt
        return read(path, *rest)

    monkeypatch.setattr(ingest_module, "read_video", until_b)
    with pytest.raises(Interrupted, match=r"data has 1 whole episode, 12 frames; the same command goes on") as caught:
        ingest(config(tmp_path, tmp_path / "a.mp4", tmp_path / "b.mp4"))
    assert caught.value.signal == signal.SIGINT


def test_what_differs_is_told_in_words(tmp_path):
    write_film(tmp_path / "a.mp4", 5)
    ingest(config(tmp_path, tmp_path / "a.mp4"))
    with pytest.raises(DataError) as refusal:
        ingest(config(tmp_path, tmp_path / "a.mp4", fps=5.0, fit="pad"))
    told = str(refusal.value)
    assert "was ingested from videos with --size " in told and "this command says --fit pad --fps 5.0, not" in told
    assert "{" not in told and "None" not in told
