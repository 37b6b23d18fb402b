"""`wakedream evaluate` of a dynamics model."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wakedream.data.background import stills
from wakedream.data.store import Store
from wakedream.data.trajectory import Actions
from wakedream.dynamics.noise import row_seeds
from wakedream.errors import ConfigError, UserError
from wakedream.evaluation.baseline import DREAMED, dream_verdict
from wakedream.evaluation.commands import commands, others
from wakedream.evaluation.config import CHUNK, EvaluateDynamicsConfig
from wakedream.evaluation.dynamics.branching import branches, recorded_seeds
from wakedream.evaluation.dynamics.chunks import Reference
from wakedream.evaluation.dynamics.control import control
from wakedream.evaluation.dynamics.drift import drift
from wakedream.evaluation.dynamics.horizons import DREAM, HORIZONS, LAST, MEAN, horizon_table
from wakedream.evaluation.dynamics.losses import action_losses, level_losses
from wakedream.evaluation.dynamics.pictures import DreamPictures, beside, from_nothing, spread, under_commands
from wakedream.evaluation.dynamics.report import lines, sections
from wakedream.evaluation.dynamics.rollouts import roll_out
from wakedream.evaluation.dynamics.sampling_steps import sampling_table
from wakedream.evaluation.dynamics.windows import check_world, dream_clips, evenly
from wakedream.evaluation.frechet import FrechetFeatures
from wakedream.perceptual.lpips import LPIPS
from wakedream.progress import ProgressBar
from wakedream.world.dream import WorldDream
from wakedream.world.model import World

COMPARED = (1, 2, 4, 8)


@dataclass(frozen=True)
class Amounts:
    """How much is measured where the options do not say; `finest`: the most sampling steps that are compared."""

    clips: int
    chunks: int
    drift: int
    control: int
    batch_size: int
    draws: int
    finest: int


GPU = Amounts(clips=64, chunks=256, drift=1000, control=200, batch_size=64, draws=4, finest=2**30)
CPU = Amounts(clips=16, chunks=24, drift=216, control=12, batch_size=16, draws=2, finest=16)  # about two minutes


class DynamicsEvaluation:
    """As evaluate.Evaluation says."""

    title = "dynamics model"

    def __init__(self, config: EvaluateDynamicsConfig, store: Store, device: torch.device, lpips: LPIPS | None):
        self.config, self.store, self.lpips, self.device = config, store, lpips, device
        self.world = World.from_pretrained(config.run).to(device)
        check_world(self.world, store)
        usual, finest = CPU if device.type == "cpu" else GPU, self.world.dynamics.config.finest_steps
        given = {name: getattr(config, name, None) for name in vars(usual)}
        self.amounts = replace(usual, **{name: value for name, value in given.items() if value is not None})
        self.context, self.steps = config.context, config.sampling_steps
        wanted = config.compare or (*COMPARED, finest)
        self.compared = sorted({k for k in wanted if config.compare or k <= min(usual.finest, finest)})
        for count in (self.steps, *self.compared):
            if not 1 <= count <= finest or count & (count - 1):
                raise ConfigError(f"{count} sampling steps: expected powers of two from 1 to {finest}, the finest that "
                                  "the model was trained for")
        frames = HORIZONS[-1] if config.length is None else config.length - self.context
        if frames < 1:
            raise ConfigError(f"--length {config.length}: expected more than the context of {self.context} frames")
        clips = partial(dream_clips, self.world.tokenizer, store, context=self.context, seed=config.seed)
        self.clips = clips(self.amounts.clips, frames=frames)
        self.short = clips(self.amounts.chunks, frames=CHUNK)
        self.left_out: list[str] = []
        self.pictures = DreamPictures(context=self.context)

    def measure(self) -> dict[str, Any]:
        results: dict[str, Any] = self._about()
        with ProgressBar("dreaming", self._frames(), "frames") as bar:
            roll = partial(roll_out, self.world.dynamics, sampling_steps=self.steps, seed=self.config.seed,
                           batch_size=self.amounts.batch_size, advance=bar.advance)
            self.roll = roll
            results |= self._horizons(roll) | self._chunks(roll) | self._losses()
        results["control"] = self._control()
        return results | {"left_out": self.left_out}

    def sections(self, results: dict[str, Any], out: Path) -> list[str]:
        tokenizer, pictures, roll = self.world.tokenizer, self.pictures, partial(self.roll, advance=None)
        pictures.starts, starting = from_nothing(tokenizer, self.clips, roll)
        if self.config.videos:
            pictures.starting = starting
            few, dreamed = spread(self.clips, self.dreamed)
            pictures.beside, pictures.places = beside(tokenizer, few, dreamed), few.places
            actions = commands(self.store.spec, self.store)
            pictures.commands, pictures.others = tuple(actions), others(self.store.spec, len(actions))
            if actions:
                pictures.held, pictures.held_places = under_commands(tokenizer, self.short, roll, actions)
        return sections(results, pictures)

    def lines(self, results: dict[str, Any]) -> list[str]:
        return lines(results)

    def _horizons(self, roll) -> dict[str, Any]:
        self.dreamed = roll(self.clips.clip, self.context)
        reached = self.clips.horizon
        missing = [str(h) for h in HORIZONS if reached < h <= (self.config.length or 2**30) - self.context]
        if missing:
            self._leave_out(f"horizons {', '.join(missing)}: the longest clip has {reached} frames after its context")
        mean, behind = stills(self.store, self.config.seed)
        table = horizon_table(self.world.tokenizer, self.clips, self.dreamed, mean, self.lpips, behind)
        judged = max(row["horizon"] for row in table if row["horizon"] <= DREAMED)
        rows = {row["of"]: row for row in table if row["horizon"] == judged}
        verdict = dream_verdict(rows[DREAM], rows[LAST], rows[MEAN], bool(self.store.spec.components))
        return {"horizons": table, "verdict": verdict}

    def _chunks(self, roll) -> dict[str, Any]:
        """What is measured on chunks of 16 frames."""
        if self.short.horizon < CHUNK:
            self._leave_out(f"sampling steps compared, long dreams: the longest held-out clip has {self.short.horizon} "
                            f"frames after its context, these need {CHUNK}")
            return {"sampling": None, "drift": None}
        features = FrechetFeatures(self.lpips, self.device) if self.lpips else None
        if features is None:
            self._leave_out("Fréchet distances: --no-lpips leaves out the network that they are measured with")
        finest = self.world.dynamics.config.finest_steps
        if finest not in self.compared and not self.config.compare:
            self._leave_out(f"K = {finest} compared: slow on a CPU; --compare 1 2 4 8 {finest} measures it")
        tokenizer, seed, chunks = self.world.tokenizer, self.config.seed, self.amounts.chunks
        reference = Reference(self.store, chunks, features, seed)
        found: dict[str, Any] = {"features": features.name if features else None, "drift": None}
        found["sampling"] = sampling_table(tokenizer, self.short, roll, self.compared, reference, self.lpips)
        if self.amounts.drift:
            few = self.short.rows(evenly(len(self.short.real), self._dreams()))
            found["drift"] = drift(tokenizer, self.store, few, roll, self.amounts.drift, reference, seed=seed)
        else:
            self._leave_out("long dreams: --drift 0")
        return found

    def _losses(self) -> dict[str, Any]:
        given = {"draws": self.amounts.draws, "seed": self.config.seed, "batch_size": self.amounts.batch_size}
        actions = action_losses(self.world.dynamics, self.short.clip, **given)
        if actions is None:
            self._leave_out("loss with other actions: the held-out clips know no actions")
        return {"actions": actions, "levels": level_losses(self.world.dynamics, self.short.clip, **given)}

    def _control(self) -> dict[str, Any] | None:
        name, count = self.store.manifest.header.info.get("env"), self.amounts.control
        if name is None or not count:
            why = "the data was recorded from no environment" if count else "--control 0"
            self._leave_out(f"actions obeyed: {why}")
            return None
        recorded = recorded_seeds([info.info for info in self.store.episodes])
        try:
            tried = branches(name, count, self.context, seed=self.config.seed, size=self.store.frame_shape[:2],
                             avoid=recorded)
        except UserError as error:
            self._leave_out(f"actions obeyed: {error}")
            return None

        seeds = row_seeds(self.config.seed, count)

        def dream(frames: Tensor, actions: Actions, has_action: Tensor, rows: slice) -> WorldDream:
            return self.world.dream(frames, actions, has_action, sampling_steps=self.steps, seed=seeds[rows])

        return control(dream, tried, batch_size=self.amounts.batch_size)

    def _dreams(self) -> int:
        """Long dreams: each has 6 whole chunks in 100 frames."""
        return min(len(self.short.real), max(1, -(-self.amounts.chunks // 6)))

    def _frames(self) -> int:
        whole = self.clips.real.numel() - len(self.clips.real) * self.context
        if self.short.horizon >= CHUNK:
            whole += 2 * len(self.compared) * len(self.short.real) * CHUNK + self._dreams() * self.amounts.drift
        return whole

    def _leave_out(self, what: str) -> None:
        self.left_out.append(what)

    def _about(self) -> dict[str, Any]:
        own = self.world.dynamics
        return {
            "dynamics": {
                "run": str(self.config.run), "parameters": sum(p.numel() for p in own.parameters()),
                "window": own.config.window, "finest_steps": own.config.finest_steps,
                "shortcut": bool(own.shortcut), "tokenizer": own.tokenizer,
            },
            "data": {"path": str(self.store.path), "fingerprint": self.store.fingerprint},
            "evaluated": {
                "split": self.store.judging_split, "clips": len(self.clips.real), "context": self.context,
                "length": self.clips.real.shape[1], "sampling_steps": self.steps, "seed": self.config.seed,
                "chunks": len(self.short.real),
            },
        }  # fmt: skip
