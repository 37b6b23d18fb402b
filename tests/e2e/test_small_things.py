"""The preset `demo` draws what is small: on two CPU cores, in 1,000 steps, a square of four pixels on a flat ground."""

import json
import subprocess
import sys

import numpy as np
import pytest

import wakedream as wd

pytestmark = pytest.mark.slow


def test_a_square_is_drawn(tmp_path):
    side = 2
    rng = np.random.default_rng(0)
    with wd.data.Writer(tmp_path / "data", frame_shape=(64, 64, 3)) as writer:
        for _ in range(60):
            frames = np.full((50, 64, 64, 3), 60, np.uint8)
            place, speed = rng.uniform(0, 64 - side, 2), rng.uniform(-2, 2, 2)
            for frame in frames:
                place += speed
                speed[(place < 0) | (place > 64 - side)] *= -1
                place = place.clip(0, 64 - side)
                top, left = place.round().astype(int)
                frame[top:top + side, left:left + side] = 230
            writer.add(frames)
    train = ("train", "tokenizer", "demo", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "run"),
             "--train.steps", "1000", "--train.evaluate-every", "1000", "--train.minutes", "None")
    done = subprocess.run([sys.executable, "-m", "wakedream", *train], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    held_out = [line for line in lines if line["kind"] == "held_out"][-1]
    assert held_out["psnr_moving"] > held_out["psnr_moving_mean_image"] + 10
