"""The first 20 losses of stage 2's preset `debug`, in float32 and eagerly, on latents of an untrained tokenizer."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from wakedream.data.actions import ActionComponent, ActionSpec
from wakedream.data.episode import Episode
from wakedream.data.writer import StoreWriter
from wakedream.presets.dynamics import dynamics_preset
from wakedream.presets.tokenizer import tokenizer_preset
from wakedream.runs import log_lines
from wakedream.stages.dynamics import train_dynamics
from wakedream.tokenizer.tokenizer import Tokenizer

GOLDEN = Path(__file__).with_name("dynamics_losses.json")
STEPS, BOOTSTRAP_FROM = 20, 10
SPEC = ActionSpec((ActionComponent("move", "categorical", 3),
                   ActionComponent("push", "continuous", 2, low=(-1, -1), high=(1, 1))))


def dynamics_losses(folder: Path) -> dict[str, list[float]]:
    """Trains in `folder`; each loss of every step that has it."""
    write_data(folder / "data")
    torch.manual_seed(0)
    Tokenizer(tokenizer_preset("debug").model).save_pretrained(folder / "tokenizer")
    run = dynamics_preset("debug")
    train = replace(run.train, steps=STEPS, warmup_steps=5, precision="float32", compile="off", device="cpu",
                    log_every=1, seed=0)
    objective = replace(run.objective, bootstrap_from=BOOTSTRAP_FROM)
    train_dynamics(replace(run, train=train, objective=objective, tokenizer=str(folder / "tokenizer")),
                   folder / "data", folder / "run", "debug")
    lines = [line for line in log_lines(folder / "run" / "metrics.jsonl") if line["kind"] == "train"]
    return {name: [line[name] for line in lines if name in line] for name in ("flow", "bootstrap")}


def write_data(path: Path) -> None:
    """Eight episodes of a square that goes where the actions say; integers only, the same everywhere."""
    with StoreWriter(path, SPEC, frame_shape=(64, 64, 3), held_out=0.25) as writer:
        for episode in range(8):
            t = np.arange(20)
            move, push = (t * (episode + 2) // 3) % 3, np.stack([(t % 5) / 2 - 1, (t % 3) - 1.0], axis=1)
            x = (np.cumsum(4 * move - 4) + 11 * episode) % 64
            y = (np.cumsum(2 * push[:, 1]).astype(int) + 7 * episode) % 64
            video = np.full((20, 64, 64, 3), 20 + 10 * episode, np.uint8)
            for frame, row, column in zip(video, y, x, strict=True):
                rows, columns = (np.arange(16) + row) % 64, (np.arange(16) + column) % 64
                frame[rows[:, None], columns] = (250 - 20 * episode, 120, 200)
            actions = {"move": move * (t > 0), "push": (push * (t > 0)[:, None]).astype(np.float32)}
            writer.add(Episode(video, actions, t > 0, np.zeros(20, np.float32), True, False))
