"""After the specification (openai/Video-Pre-Training: README.md, data_loader.py): no recorder is to be had."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wakedream.data.config import IngestConfig
from wakedream.data.readers.ingest import ingest
from wakedream.data.readers.vpt import LABELS
from wakedream.data.store import Store
from wakedream.data.video import encode_mp4
from wakedream.errors import DataError


def line(keys: str = "", buttons: tuple[int, ...] = (), fresh: tuple[int, ...] = (), dx: float = 0, dy: float = 0,
         hotbar: int = 0, gui: bool = False) -> dict[str, Any]:
    return {"mouse": {"x": 1.0, "y": 1.0, "dx": dx, "dy": dy, "dwheel": 0.0, "buttons": list(buttons),
                      "newButtons": list(fresh)},
            "keyboard": {"keys": [f"key.keyboard.{key}" for key in keys.split()], "newKeys": [], "chars": ""},
            "isGuiOpen": gui, "isGuiInventory": False, "hotbar": hotbar, "tick": 0}


def record(stem: Path, lines: list[Any], frames: int) -> None:
    stem.parent.mkdir(parents=True, exist_ok=True)
    video = np.zeros((frames, 32, 32, 3), np.uint8)
    video[..., 0] = np.linspace(0, 250, frames)[:, None, None]
    stem.with_suffix(".mp4").write_bytes(encode_mp4(video, 20))
    stem.with_suffix(".jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))


def read(place: Path, out: Path, **options: Any) -> Store:
    ingest(IngestConfig((f"vpt:{place}",), str(out), size="32", **options))
    return Store.open(out)


def pressed(store: Store, number: int = 0) -> list[set[str]]:
    keys = store.read(number).actions["keys"]
    return [{label for label, bit in zip(LABELS, bits, strict=True) if bit} for bits in keys]


def test_what_a_line_says_led_into_the_next_frame_and_lines_without_any_act_stay(tmp_path: Path) -> None:
    lines = [line("w space"), line(), line(), line("left.shift", (1,), dx=20, dy=-10), line("k q"), line("e")]
    record(tmp_path / "play" / "a", lines, 6)
    store = read(tmp_path / "play", tmp_path / "data")
    assert pressed(store) == [set(), {"forward", "jump"}, set(), set(), {"sneak", "use"}, {"drop"}]
    episode = store.read(0)
    assert episode.has_action.tolist() == [False] + [True] * 5
    assert np.allclose(episode.actions["camera"], [[0, 0]] * 4 + [[-1.5, 3]] + [[0, 0]])  # degrees: pitch, yaw
    assert not episode.has_reward.any()
    assert np.diff(episode.video[:, 0, 0, 0].astype(int)).min() > 20  # every frame, once


def test_a_name_may_have_a_colon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    record(Path("http:a"), [line("w")] * 6, 6)
    assert [info.frames for info in read(Path("http:a.mp4"), Path("data")).episodes] == [6]


def test_an_attack_that_nobody_pressed_is_none_until_it_is_pressed(tmp_path: Path) -> None:
    lines = [line(buttons=(0,), fresh=(0,)), line(buttons=(0,)), line(buttons=(0, 2)), line(buttons=(0,), fresh=(0,)),
             line(buttons=(0,)), line()]
    record(tmp_path / "play" / "a", lines, 6)
    record(tmp_path / "play" / "b", [line(), *lines[3:], line(), line()], 6)
    store = read(tmp_path / "play", tmp_path / "data")
    assert pressed(store)[1:] == [set(), set(), {"pickItem"}, {"attack"}, {"attack"}]
    assert pressed(store, 1)[1:] == [set(), {"attack"}, {"attack"}, set(), set()]


def test_a_slot_that_the_wheel_chose_is_a_key(tmp_path: Path) -> None:
    record(tmp_path / "a", [line(hotbar=0), line(hotbar=0), line(hotbar=6), line("3", hotbar=2), line(hotbar=2)], 5)
    assert pressed(read(tmp_path / "a.mp4", tmp_path / "data"))[1:] == [set(), set(), {"hotbar.7"}, {"hotbar.3"}]


def test_impossible_moves_are_none_and_menus_of_old_recorders_are_scaled(tmp_path: Path) -> None:
    lines = [line(dx=1201, dy=10), line(dx=10, gui=True), line(dx=10), line()]
    for version in ("6.9", "8.0"):
        record(tmp_path / version / "a", lines, 4)
    for version, scale in (("6.9", 2), ("8.0", 1)):
        episode = read(tmp_path / version, tmp_path / "data" / version).read(0)
        assert np.allclose(episode.actions["camera"][1:], [[1.5, 0], [0, 1.5 * scale], [0, 1.5]])
        assert episode.extras["gui_open"].tolist() == [0, 1, 0, 0]


def test_where_the_recorder_failed_the_action_is_unknown(tmp_path: Path) -> None:
    record(tmp_path / "a", [line("w"), line() | {"mouse": None}, line("w"), line()], 4)
    assert read(tmp_path / "a.jsonl", tmp_path / "data").read(0).has_action.tolist() == [False, True, False, True]


@pytest.mark.parametrize(("lines", "known", "told"), [(20, 19, ""), (19, 19, ""), (23, 19, "3 lines have no frame"),
                                                      (16, 16, "the last 3 frames is not known")])
def test_another_number_of_lines_than_frames_is_told_and_no_frame_is_lost(
        tmp_path: Path, lines: int, known: int, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    record(tmp_path / "a", [line("w")] * lines, 20)
    episode = read(tmp_path / "a.mp4", tmp_path / "data").read(0)
    assert len(episode.video) == 20
    assert episode.has_action.tolist() == [False] + [True] * known + [False] * (19 - known)
    assert told in (error := capsys.readouterr().err) and ("lines" in error) == bool(told)


def test_what_does_not_belong_together_is_left_out_and_named(tmp_path: Path) -> None:
    record(tmp_path / "good", [line()] * 8, 8)
    record(tmp_path / "short", [line()] * 30, 8)
    record(tmp_path / "broken", [line()] * 8, 8)
    (tmp_path / "broken.jsonl").write_text('{"mouse": {}}\n' * 8)
    record(tmp_path / "alone", [line()], 8)
    (tmp_path / "alone.jsonl").unlink()
    with pytest.raises(DataError, match=r"3 of 4") as caught:
        read(tmp_path, tmp_path / "data")
    for told in ("8 frames and 30 lines", "broken.jsonl, line 1", "alone.jsonl is not beside alone.mp4"):
        assert told in str(caught.value)
    assert [info.info["name"] for info in Store.open(tmp_path / "data").episodes] == ["good"]


def test_long_recordings_are_cut_as_videos_are(tmp_path: Path) -> None:
    record(tmp_path / "a", [line("w")] * 25, 25)
    store = read(tmp_path / "a.mp4", tmp_path / "data", episode_frames=10)
    assert [info.frames for info in store.episodes] == [10, 10, 5]
    assert all(store.read(i).has_action.tolist() == [False] + [True] * (info.frames - 1)
               for i, info in enumerate(store.episodes))
