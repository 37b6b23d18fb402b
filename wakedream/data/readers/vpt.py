"""Recorded play as OpenAI released it for VPT (contractors, BASALT): NAME.mp4 and NAME.jsonl, a line for each frame.

What a line says was done AT its frame, so it led into the next one here. Lines in which nothing is done stay, else time
would jump. After openai/Video-Pre-Training: README.md, data_loader.py, run_inverse_dynamics_model.py.
"""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from wakedream.data.actions import ActionComponent, ActionSpec
from wakedream.data.film import count_frames, frames_of
from wakedream.data.plain import plain_columns
from wakedream.data.readers.source import Play, readable
from wakedream.errors import DataError

KEYS = {"escape": "ESC", "w": "forward", "s": "back", "a": "left", "d": "right", "space": "jump", "left.shift": "sneak",
        "left.control": "sprint", "q": "drop", "e": "inventory", "f": "swapHands",
        **{str(n): f"hotbar.{n}" for n in range(1, 10)}}
BUTTONS = ("attack", "use", "pickItem")  # of the mouse, by number
LABELS = (*KEYS.values(), *BUTTONS)
DEGREES = 360 / 2400  # for each pixel that the mouse moved
FASTEST = 10.0  # degrees a frame that VPT's models tell apart; what is stored may be more
GUI_SCALE = {"5.7": 0.5, "5.8": 0.5, "6.7": 2.0, "6.8": 2.0, "6.9": 2.0}  # by recorder, the folder's name; else 1
SPEC = ActionSpec((ActionComponent("keys", "binary", len(LABELS), labels=LABELS),
                   ActionComponent("camera", "continuous", 2, (-FASTEST,) * 2, (FASTEST,) * 2, ("pitch", "yaw"))))


class Vpt:
    """A `Source`: a folder, searched to the bottom, or one recording."""

    guessed = False
    endless = True
    spec = SPEC

    def __init__(self, place: str, camera: str | None):
        path = Path(place)
        files = [path] if path.is_file() else sorted(path.rglob("*"))
        self._stems = sorted({file.with_suffix("") for file in files if file.suffix in (".mp4", ".jsonl")})
        if not self._stems:
            raise DataError(f"there are no recordings at {place}: expected NAME.mp4 and NAME.jsonl side by side")
        self._names = {str(stem.name if path.is_file() else stem.relative_to(path)): stem for stem in self._stems}
        self.episodes = list(self._names)
        self.remarks: list[str] = []

    def read(self, name: str, spec: ActionSpec) -> Play:
        stem = self._names[name]
        video, lines = (stem.with_name(stem.name + suffix) for suffix in (".mp4", ".jsonl"))
        for file, other in ((video, lines), (lines, video)):
            if not file.is_file():
                raise DataError(f"{file.name} is not beside {other.name}")
        keys, camera, known, gui = _actions(lines)
        t = count_frames(video)
        self._told(name, t, len(known))
        n = min(len(known), t - 1)
        more = max(0, t - 1 - n)  # frames after the last line
        fill = [np.pad(values[:n], [(0, more)] + [(0, 0)] * (values.ndim - 1)) for values in (keys, camera, known)]
        columns = plain_columns(spec, t, {"keys": fill[0], "camera": fill[1]}, has_action=fill[2],
                                extras={"gui_open": np.pad(gui[:t], (0, max(0, t - len(gui))))})
        return Play(columns, False, lambda: frames_of(video), {"bytes": video.stat().st_size})

    def _told(self, name: str, frames: int, lines: int) -> None:
        """One line a frame, or one less, is as it should be."""
        if abs(frames - lines) > max(10, lines // 100):
            raise DataError(f"{frames} frames and {lines} lines: expected one line for each frame; they are not of the "
                            "same recording")
        if lines > frames:
            self.remarks.append(f"{name}: {frames} frames and {lines} lines; the last {lines - frames} lines have no "
                                "frame and are left out")
        elif frames > lines + 1:
            self.remarks.append(f"{name}: {frames} frames and {lines} lines; what led into the last "
                                f"{frames - 1 - lines} frames is not known")


def _actions(file: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """keys (n 23), camera (n 2), whether they are known (n), whether a menu is open (n)."""
    lines = _lines(file)
    scale = GUI_SCALE.get(file.parent.name if re.fullmatch(r"\d+\.\d+", file.parent.name) else "", 1.0)
    keys, camera = np.zeros((len(lines), len(LABELS)), np.float32), np.zeros((len(lines), 2), np.float32)
    known, gui = np.zeros(len(lines), bool), np.zeros(len(lines), np.float32)
    stuck, hotbar = False, 0
    for i, line in enumerate(lines):
        try:
            gui[i] = bool(line.get("isGuiOpen"))
            if (now := line.get("hotbar", hotbar)) != hotbar:  # the wheel is not recorded, what it chose is
                keys[i, LABELS.index(f"hotbar.{int(now) + 1}")] = 1
            hotbar = now
            if line["mouse"] is None or line["keyboard"] is None:  # the recorder failed
                continue
            mouse, fresh = line["mouse"], line["mouse"].get("newButtons", [])
            stuck = fresh == [0] if i == 0 else stuck and 0 not in fresh  # attack that nobody presses
            for key in line["keyboard"]["keys"]:
                if (key := key.removeprefix("key.keyboard.")) in KEYS:
                    keys[i, LABELS.index(KEYS[key])] = 1
            for button in mouse["buttons"]:
                if button in range(len(BUTTONS)) and not (stuck and button == 0):
                    keys[i, LABELS.index(BUTTONS[int(button)])] = 1
            moved = np.array([mouse["dy"], mouse["dx"]], float) * DEGREES * (scale if gui[i] else 1)
            camera[i] = np.where(np.abs(moved) > 180, 0, moved)
            known[i] = True
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{file.name}, line {i + 1}: {type(error).__name__} {error}; expected mouse (dx, dy, "
                            "buttons) and keyboard (keys)") from error
    return keys, camera, known, gui


def _lines(file: Path) -> list[dict[str, Any]]:
    found = []
    with readable(file.name), open(file, encoding="utf-8") as text:
        for number, line in enumerate(text, 1):
            try:
                found.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise DataError(f"{file.name}, line {number} is not JSON ({error}): get it whole") from None
    return found
