"""Tokenizer and dynamics model as one: pictures and actions in, pictures out."""

import hashlib
from pathlib import Path

import torch
from torch import Tensor

from wakedream.dynamics.dynamics import Dynamics
from wakedream.errors import CheckpointError, ConfigError
from wakedream.model.given import Given, GivenActions, frames_of
from wakedream.model.pretrained import CONFIG, FORMAT, Pretrained, refuse_foreign
from wakedream.runs import located, run_of, write_json
from wakedream.tokenizer.tokenizer import Tokenizer
from wakedream.world.dream import WorldDream

TOKENIZER, DYNAMICS = "tokenizer", "dynamics"  # folders: beside a run's checkpoints, or in a world's own folder


class World:
    """A dynamics model and the tokenizer whose latents it was trained on.

        world = World.from_pretrained("runs/crafter-dynamics")
        dream = world.dream(frames, actions)            # goes on where the frames (b t c h w) end
        frame = dream.step({"action": [2]})             # (b c h w) in [0, 1]
    """

    KIND = "world"

    def __init__(self, tokenizer: Tokenizer, dynamics: Dynamics):
        """CheckpointError when the dynamics model was trained on another tokenizer's latents."""
        if dynamics.tokenizer and dynamics.tokenizer != (own := tokenizer.fingerprint()):
            raise CheckpointError("the dynamics model was trained on latents of the tokenizer "
                                  f"{dynamics.tokenizer[:12]}, this one is {own[:12]}: give that one")
        shape = (tokenizer.config.num_latents, tokenizer.config.latent_dim)
        expected = (dynamics.config.num_latents, dynamics.config.latent_dim)
        if shape != expected:
            raise ConfigError(f"the tokenizer makes {shape[0]}x{shape[1]} latents a frame, the dynamics model takes "
                              f"{expected[0]}x{expected[1]}")
        self.tokenizer, self.dynamics = tokenizer, dynamics

    @property
    def parts(self) -> dict[str, Pretrained]:
        """By the name of the folder that holds each."""
        return {TOKENIZER: self.tokenizer, DYNAMICS: self.dynamics}

    @classmethod
    def from_pretrained(cls, path: str | Path) -> "World":
        """Of a dynamics model's or an agent's run folder (its best weights), of its `best` or a checkpoint in it, of
        what `save_pretrained` of a world or an agent wrote, or of a world in the box, by its name."""
        path = Path(path)
        dynamics = Dynamics.from_pretrained(path)
        return cls(Tokenizer.from_pretrained(tokenizer_of(path)), dynamics)

    def save_pretrained(self, folder: str | Path, precision: str | None = None) -> None:
        """Write folder/tokenizer and folder/dynamics, weights folders each. RunError where it holds something else.

        precision: of the weights there, "bf16" or "float32"; None: as they are. They are read as float32 again.
        """
        folder = Path(folder)
        refuse_foreign(folder, self.KIND)
        tokenizer, dynamics = self.tokenizer.rounded(precision), self.dynamics.rounded(precision)
        if precision is not None:
            mark(tokenizer, dynamics)
        parts: dict[str, Pretrained] = {TOKENIZER: tokenizer, DYNAMICS: dynamics}
        for name, part in parts.items():
            part.save_within(folder / name, precision)
        marks = {name: part.fingerprint() for name, part in parts.items()}
        write_json(folder / CONFIG, {"format": FORMAT, "kind": self.KIND, **marks})

    def fingerprint(self) -> str:
        """sha256 over the fingerprints of its parts."""
        return hashlib.sha256(" ".join(part.fingerprint() for part in self.parts.values()).encode()).hexdigest()

    def frozen(self, precision: str | None = None) -> "World":
        """A copy for inference alone, as its parts'."""
        made = type(self).__new__(type(self))  # its parts fit, but their frozen copies have other fingerprints
        made.tokenizer, made.dynamics = self.tokenizer.frozen(precision), self.dynamics.frozen(precision)
        return made

    @property
    def device(self) -> torch.device:
        return self.dynamics.registers.device

    def to(self, device: torch.device | str) -> "World":
        self.tokenizer.to(device)
        self.dynamics.to(device)
        return self

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.tokenizer!r}, {self.dynamics!r})"

    def dream(self, frames: Given | None = None, actions: GivenActions | None = None,
              has_action: Given | None = None, *, batch_size: int | None = None, sampling_steps: int = 4,
              seed: Given | None = None, precision: str | None = None, graph: bool | None = None,
              compile: bool = False) -> WorldDream:
        """A dream that goes on after `frames` (b t c h w), uint8 or float in [0, 1], or begins from nothing.

        Tensors, arrays and lists alike. ValueError for frames, and DataError for actions, that cannot be.

        actions         [:, t] led into frames[:, t]; has_action: bool (b t), by default True if there are actions
        batch_size      dreams side by side: without frames; with them it is their number of rows
        sampling_steps  K, a power of two up to the model's finest_steps
        seed            of all rows, or one for each (int64 b); None: a new one each time. `dream.seeds` holds them, to
                        repeat a dream
        precision, graph, compile    how it is computed, as dynamics.Dream has them; "fp8" is the dynamics model's
                        alone, pictures are in bf16 then
        """
        if frames is not None:
            frames = frames_of(frames)
            batch_size = _rows(frames, batch_size)
        elif actions is not None or has_action is not None:
            raise ValueError("actions are given without the frames that they led into: give frames, too, or the "
                             "actions one by one, with dream.step")
        dream = WorldDream(self.tokenizer, self.dynamics, batch_size=1 if batch_size is None else batch_size,
                           sampling_steps=sampling_steps, seed=seed, precision=precision, graph=graph, compile=compile)
        if frames is not None:
            dream.observe(frames, actions, has_action)
        return dream


def mark(tokenizer: Tokenizer, dynamics: Dynamics) -> None:
    """Both are rounded copies: a dynamics model that knows whose latents it was trained on is told that this is it."""
    if dynamics.tokenizer:
        dynamics.tokenizer = tokenizer.fingerprint()


def _rows(frames: Tensor, batch_size: int | None) -> int:
    """The number of dreams that go on after these frames."""
    if frames.ndim != 5:
        raise ValueError(f"expected frames (b, t, c, h, w), got {tuple(frames.shape)}")
    if 0 in frames.shape[:2]:
        raise ValueError(f"no frames are given, {tuple(frames.shape)}: expected one or more in each of one or more "
                         "rows; without any, leave them out, and dreams begin from nothing")
    rows = frames.shape[0]
    if batch_size not in (None, rows):
        raise ValueError(f"batch_size is {batch_size} for frames of {rows} {'row' if rows == 1 else 'rows'}: leave it "
                         "out, or repeat the frames. One dream becomes many by dream.fork(n)")
    return rows


def tokenizer_of(path: Path) -> Path:
    """Beside the weights, in the run that they lie in, or beside them in the world that they are a part of."""
    path = located(path)
    beside = [path.absolute().parent] if path.absolute().name == DYNAMICS else []
    for folder in (path, run_of(path), *beside):
        if (folder / TOKENIZER).exists():
            return folder / TOKENIZER
    raise CheckpointError(f"{path} has no folder '{TOKENIZER}', nor has a run that it lies in: give the run folder of "
                          "a dynamics model, which keeps the tokenizer that it was trained with")
