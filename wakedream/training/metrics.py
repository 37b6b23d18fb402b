"""What a run tells: metrics.jsonl, TensorBoard, pictures, and a line on the console."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import torch
from torch import Tensor

from wakedream import runs
from wakedream.progress import ProgressBar

# on the console. Not the whole loss: it is divided by its own running size, stays near 1 and may rise while all is well
SHOWN = {"mse": "%.3g", "flow": "%.3g", "psnr": "%.2f", "psnr_moving": "%.2f"}


@dataclass
class Check:
    """The result of a look at held-out data: numbers by name, and a picture uint8 (h w 3) on the host.

    score: by which the best weights are chosen, higher is better; None: the last ones are what is used
    by: what the score is; those of another kind do not compare
    verdict: what is to be said, if training ends here, of a model that is no better than none
    """

    values: dict[str, float]
    picture: Tensor | None = None
    score: float | None = None
    by: str = ""
    verdict: str = ""


class Meter:
    """Sums of named numbers on the device, read as means when logging. `add` does not wait for the device."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}  # name -> (sum, count)

    def add(self, values: Mapping[str, Tensor]) -> None:
        for name, value in values.items():
            pair = torch.stack([value.detach().float(), torch.ones_like(value, dtype=torch.float32)])
            self.sums.setdefault(name, torch.zeros_like(pair)).add_(pair)  # in place: a recorded step goes on with it

    def read(self) -> dict[str, float]:
        """Means since the last read; waits for the device once."""
        if not self.sums:
            return {}
        names, rows = list(self.sums), torch.stack(list(self.sums.values())).tolist()
        for pair in self.sums.values():
            pair.zero_()
        return {name: total / count for name, (total, count) in zip(names, rows, strict=True) if count}

    def state_dict(self) -> dict[str, Tensor]:
        return dict(self.sums)

    def load_state_dict(self, state: Mapping[str, Tensor], device: torch.device) -> None:
        self.sums = {name: pair.to(device) for name, pair in state.items()}


class Metrics:
    """`with Metrics(folder, step, label, frames) as metrics:`; what a killed run wrote after `step` is cut off.

    frames: seen before this process, which its rate does not count.
    """

    def __init__(self, folder: Path, step: int, label: str, frames: int = 0):
        from torch.utils.tensorboard import SummaryWriter

        self.folder = folder
        self.file = folder / "metrics.jsonl"
        cut(self.file, step)
        self.board = SummaryWriter(folder / "tensorboard", purge_step=step + 1)
        self.bar = ProgressBar(label, None, "frames", initial=frames)
        self.shown: dict[str, str] = {}

    def __enter__(self) -> "Metrics":
        self.bar.__enter__()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.bar.__exit__(kind, error, trace)
        self.board.close()

    def write(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """One line {"kind": kind, "step": step, ...}, one point per value on the board."""
        with runs.disk_errors(self.file), open(self.file, "a", encoding="utf-8") as handle:
            handle.write(json.dumps({"kind": kind, "step": step, **values}) + "\n")
        for name, value in values.items():
            self.board.add_scalar(f"{kind}/{name}", value, step)
        self.shown |= {name: form % values[name] for name, form in SHOWN.items() if name in values}

    def picture(self, step: int, picture: Tensor) -> None:
        """RUN/images/step_00001000.png, and the same on the board."""
        from PIL import Image

        with runs.atomic(self.folder / "images" / f"step_{step:08d}.png") as beside:
            Image.fromarray(picture.numpy()).save(beside, format="png")
        self.board.add_image("held_out", picture, step, dataformats="HWC")

    def show(self, step: int, frames: int, done: float, pace: tuple[float, float]) -> None:
        """Move the bar: `frames` seen since step 0, `done` share of the whole training; frames a second of training
        alone (0: not known yet), and seconds of it that are left."""
        if done > 0:
            self.bar.total = frames / done
        self.bar.update(frames, pace=pace, step=step, **self.shown)


def cut(file: Path, step: int) -> None:
    """Drop lines after `step`, and a last line that was not finished."""
    if file.exists():
        kept = [line for line in runs.log_lines(file) if line["step"] <= step]
        with runs.atomic(file) as beside:
            beside.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
