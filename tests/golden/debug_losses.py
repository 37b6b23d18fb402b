"""The first 20 losses of the preset `debug`, in float32 and eagerly, on a data set made of squares."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from wakedream.data.actions import ActionSpec
from wakedream.data.episode import Episode
from wakedream.data.writer import StoreWriter
from wakedream.presets.tokenizer import tokenizer_preset
from wakedream.runs import log_lines
from wakedream.stages.tokenizer import train_tokenizer

GOLDEN = Path(__file__).with_name("debug_losses.json")
STEPS = 20


def debug_losses(folder: Path) -> list[float]:
    """Trains in `folder`; the mean squared error of every step."""
    write_data(folder / "data")
    run = tokenizer_preset("debug")
    train = replace(run.train, steps=STEPS, warmup_steps=5, precision="float32", compile="off", device="cpu",
                    log_every=1, seed=0)
    train_tokenizer(replace(run, train=train), folder / "data", folder / "run", "debug")
    return [line["mse"] for line in log_lines(folder / "run" / "metrics.jsonl") if line["kind"] == "train"]


def write_data(path: Path) -> None:
    """Eight episodes of a bright square drifting over a dark ground; integers only, the same everywhere."""
    with StoreWriter(path, ActionSpec(), frame_shape=(64, 64, 3), held_out=0.25) as writer:
        for episode in range(8):
            video = np.full((16, 64, 64, 3), 20 + 10 * episode, np.uint8)
            for t in range(16):
                rows = (np.arange(16) + 7 * episode + t) % 64
                columns = (np.arange(16) + 11 * episode + 2 * t) % 64
                video[t, rows[:, None], columns] = (250 - 20 * episode, 120 + 15 * episode, 200)
            writer.add(Episode.of_video(video))
