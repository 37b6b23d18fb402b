"""Stage 2: a dynamics model learns to predict latents of a frozen tokenizer."""

import sys
from pathlib import Path

import torch
from einops import rearrange

from wakedream import runs
from wakedream.data.background import stills
from wakedream.data.loader import evaluation_clips
from wakedream.data.store import Store
from wakedream.dynamics.batches import LatentBatches, evaluation_latents
from wakedream.dynamics.dynamics import Dynamics
from wakedream.dynamics.encode import Company, encode_store
from wakedream.dynamics.latents import LatentStore
from wakedream.dynamics.objective import DynamicsObjective
from wakedream.errors import ConfigError
from wakedream.evaluation.baseline import DREAMED, dream_verdict
from wakedream.evaluation.dynamics.rollouts import pictures_of, roll_out
from wakedream.evaluation.metrics import ReconstructionMetrics
from wakedream.evaluation.tokenizer.reconstruction import judging_split
from wakedream.notation import Frames
from wakedream.perceptual.lpips import LPIPS
from wakedream.stages.checks import SHOWN, Perception, picture
from wakedream.stages.config import DynamicsRun
from wakedream.stages.skeleton import Stage, train_stage
from wakedream.tokenizer.tokenizer import Tokenizer
from wakedream.training.distributed import Place
from wakedream.training.loop import Evaluate
from wakedream.training.metrics import Check
from wakedream.training.run_config import Source
from wakedream.world.model import TOKENIZER

CONTEXT, HORIZON = 16, 16  # frames of the dreams that training is judged by
LARGER = " in larger steps"


def train_dynamics(run: DynamicsRun, data: Path | str, out: Path | str, preset: str = "custom") -> None:
    """On the data set as `run.tokenizer` encodes it; see `train_stage`."""
    if not run.tokenizer:
        raise ConfigError("--tokenizer: expected the run folder of a tokenizer: wakedream train tokenizer ...")
    train_stage(DynamicsStage, run, data, out, preset)


class DynamicsStage(Stage):
    NAME, MODEL, JUDGES = "dynamics", Dynamics, True
    run: DynamicsRun
    latents: LatentStore

    def __init__(self, run: DynamicsRun, store: Store, place: Place):
        super().__init__(run, store, place)
        self.tokenizer = Tokenizer.from_pretrained(run.tokenizer).requires_grad_(False).to(place.device)
        check_latents(self.tokenizer, run)
        self.mark = self.tokenizer.fingerprint()

    def sources(self) -> dict[str, Source]:
        return {"tokenizer": {"path": self.run.tokenizer, "fingerprint": self.mark}}

    def model(self) -> Dynamics:
        return Dynamics(self.run.model, self.store.spec)

    def prepare(self, model: Dynamics, given: Dynamics | None = None) -> None:
        """The data set's latents, made now if they are not there yet, set the model's scale: but for starting weights
        that have learned latents of this tokenizer at their own."""
        run = self.run
        folder = Path(run.latents) if run.latents else latents_in(Path(run.tokenizer), self.store, self.tokenizer)
        self.latents = encoded(self.store, self.tokenizer, folder, self.place)
        if given is not None and given.tokenizer != self.mark and self.place.writes:
            print(f"--init {self.run.init}: trained on latents of another tokenizer", file=sys.stderr)
        if given is None or given.tokenizer != self.mark:
            model.latent_mean.copy_(self.latents.mean)
            model.latent_scale.fill_(self.latents.scale)
        model.tokenizer = self.mark

    def objective(self, model: Dynamics, perception: Perception) -> DynamicsObjective:
        return DynamicsObjective(model, self.run.objective, self.run.loader.batch_size)

    def batches(self) -> LatentBatches:
        run, place = self.run, self.place
        return LatentBatches(self.store, self.latents, tokenizer=self.tokenizer, config=run.loader, seed=run.train.seed,
                             device=place.device, rank=place.rank, world_size=place.world_size)

    def check(self, perception: Perception) -> Evaluate | None:
        clips = self.run.train.evaluation_clips
        return held_out(self.store, self.latents, self.tokenizer, clips, self.place, perception)

    def keep(self, folder: Path) -> None:
        """The tokenizer, so that the folder is a whole world."""
        self.tokenizer.save_within(folder / TOKENIZER)


def check_latents(tokenizer: Tokenizer, run: DynamicsRun) -> None:
    """ConfigError unless the model takes what the tokenizer makes."""
    made = (tokenizer.config.num_latents, tokenizer.config.latent_dim)
    taken = (run.model.num_latents, run.model.latent_dim)
    if made != taken:
        raise ConfigError(f"the tokenizer {run.tokenizer} makes {made[0]}x{made[1]} latents a frame, the model takes "
                          f"{taken[0]}x{taken[1]}: use --model.num-latents {made[0]} --model.latent-dim {made[1]}")


def latents_in(folder: Path, store: Store, tokenizer: Tokenizer) -> Path:
    """Where a data set's latents are kept: in the folder of their tokenizer; of one in the box in the user's cache,
    where other versions of it keep theirs apart."""
    place, boxed = folder / "latents", runs.boxed(folder)
    if boxed is not None:
        place = runs.cache_folder() / "latents" / f"{boxed}-{tokenizer.fingerprint()[:12]}"
    return place / store.fingerprint[:12]


def encoded(store: Store, tokenizer: Tokenizer, folder: Path, place: Place) -> LatentStore:
    """The data set's latents, made now if they are not there yet: each process encodes its share of the shards."""
    group = place.patient_group()
    company = Company(place.rank, place.world_size, lambda said: [plain for _, plain in place.gather({}, said, group)])
    return encode_store(tokenizer, store, folder, device=place.device, show_progress=place.writes, company=company)


def held_out(store: Store, latents: LatentStore, tokenizer: Tokenizer, count: int, place: Place,
             perception: Perception) -> Evaluate | None:
    """Dreams of `count` held-out clips, 16 frames after 16 of context; the best kept, by what `perception` judges by.

    Weights that have met larger steps are compared with none that have not: the first of them take the place of all
    before, or early best ones would leave a run without what dreams in few steps need.
    """
    length = CONTEXT + HORIZON
    split = judging_split(store, place.writes)
    if not any(info.frames >= length for info in store.split(split)):
        if place.writes:
            print(f"{store.path} has no {split.replace('_', '-')} episode of {length} frames: training goes unchecked",
                  file=sys.stderr)
        return None
    seen = (split, count, length)
    clip = evaluation_latents(store, latents, *seen).to(place.device)
    video = evaluation_clips(store, *seen).video.to(place.device).float() / 255
    mean, behind = (image.to(place.device) for image in stills(store))
    truth, last = video[:, CONTEXT:], video[:, CONTEXT - 1:CONTEXT]

    def measured(made: Frames, lpips: LPIPS | None) -> ReconstructionMetrics:
        metrics = ReconstructionMetrics(lpips, behind)
        metrics.update(made, truth)
        return metrics

    still = {of: measured(frame.expand_as(truth), None) for of, frame in (("last_frame", last), ("mean_image", mean))}
    baselines = {of: metrics.compute() for of, metrics in still.items()}
    least = {f"psnr_moving_{of}": numbers["psnr_moving"]
             for of, numbers in baselines.items() if "psnr_moving" in numbers}
    last_to_beat, mean_to_beat = (at(still[of].by_frame(), DREAMED) for of in ("last_frame", "mean_image"))

    def evaluate(dynamics: Dynamics) -> Check:
        made = pictures_of(tokenizer, clip, roll_out(dynamics, clip, CONTEXT))
        metrics = measured(made, perception.lpips)
        curves = metrics.by_frame()
        found = metrics.compute() | {f"psnr_{h}": at(curves, h)["psnr"] for h in (1, 8, HORIZON)}
        found.pop("frames")
        found |= least
        verdict = dream_verdict(at(curves, DREAMED), last_to_beat, mean_to_beat, bool(store.spec.components))
        shown = torch.stack([truth[:SHOWN, [7, -1]], made[:SHOWN, [7, -1]]])
        rows = rearrange(shown, "kind b t c h w -> (t kind) b c h w").cpu()
        score, by = perception.score(found, len(truth))
        return Check(found, picture(rows), score, by + (LARGER if dynamics.shortcut else ""), verdict)

    return evaluate  # type: ignore[return-value]


def at(curves: dict[str, list[float]], frame: int) -> dict[str, float]:
    """What was measured of the frame of that number, from 1."""
    return {name: values[frame - 1] for name, values in curves.items()}
