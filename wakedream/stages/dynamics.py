"""Stage 2: a dynamics model learns to predict latents of a frozen tokenizer."""

import contextlib
import sys
from pathlib import Path

import torch
from einops import rearrange

from wakedream import runs
from wakedream.config import to_dict
from wakedream.data.loader import evaluation_clips
from wakedream.data.store import Store
from wakedream.dynamics.batches import LatentBatches, evaluation_latents
from wakedream.dynamics.dynamics import Dynamics
from wakedream.dynamics.encode import encode_store
from wakedream.dynamics.latents import LatentStore
from wakedream.dynamics.objective import DynamicsObjective
from wakedream.errors import ConfigError
from wakedream.evaluation.dynamics.rollouts import pictures_of, roll_out
from wakedream.evaluation.metrics import ReconstructionMetrics
from wakedream.stages.checks import SHOWN, perceptual, picture
from wakedream.stages.config import DynamicsRun
from wakedream.tokenizer.tokenizer import Tokenizer
from wakedream.training.distributed import Place, join
from wakedream.training.loop import Evaluate, fit
from wakedream.training.metrics import Check
from wakedream.training.optim import build_optimizers
from wakedream.training.run_config import check_same, claim, identity
from wakedream.world.model import TOKENIZER

CONTEXT, HORIZON = 16, 16  # frames of the dreams that training is judged by


def train_dynamics(run: DynamicsRun, data: Path, out: Path, preset: str = "custom") -> None:
    """Train on the data set `data`, as `run.tokenizer` encodes it, into the run folder `out`.

    DataError, ConfigError, CheckpointError, RunError before anything is written there; Interrupted after saving.
    """
    if not run.tokenizer:
        raise ConfigError("--tokenizer: expected the run folder of a tokenizer: wakedream train tokenizer ...")
    with join(run.train.device) as place, contextlib.ExitStack() as stack:
        store = Store.open(data)
        tokenizer = Tokenizer.from_pretrained(run.tokenizer).requires_grad_(False).to(place.device)
        check_latents(tokenizer, run)
        mark = tokenizer.fingerprint()
        own = identity("dynamics", preset, to_dict(run), data={"path": str(data), "fingerprint": store.fingerprint},
                       tokenizer={"path": run.tokenizer, "fingerprint": mark})
        if place.writes:
            check_same(out, own)  # before the data set is encoded for nothing
        latents = encoded(store, tokenizer, mark, run, place)
        torch.manual_seed(run.train.seed)
        dynamics = Dynamics(run.model, store.spec)
        dynamics.tokenizer = mark
        dynamics.latent_mean.copy_(latents.mean)
        dynamics.latent_scale.fill_(latents.scale)
        batches = stack.enter_context(LatentBatches(
            store, latents, tokenizer=tokenizer, config=run.loader, seed=run.train.seed, device=place.device,
            rank=place.rank, world_size=place.world_size))
        check = held_out(store, latents, tokenizer, run, place)
        if place.writes:
            stack.enter_context(runs.locked(out))
            claim(out, own)
            tokenizer.save_pretrained(out / TOKENIZER)
        torch.manual_seed(run.train.seed + place.rank)  # every process draws its own noise
        state = fit(DynamicsObjective(dynamics, run.objective, run.loader.batch_size), lambda model: build_optimizers(model, run.optim),
                    batches, run.train, place, out, run.loader.batch_size * run.loader.length, check, label="dynamics")
    if place.writes:
        print(f"{out}: {state.step:,} steps. Next: wakedream evaluate {out} --data {data}")


def check_latents(tokenizer: Tokenizer, run: DynamicsRun) -> None:
    """ConfigError unless the model takes what the tokenizer makes."""
    made = (tokenizer.config.num_latents, tokenizer.config.latent_dim)
    taken = (run.model.num_latents, run.model.latent_dim)
    if made != taken:
        raise ConfigError(f"the tokenizer {run.tokenizer} makes {made[0]}x{made[1]} latents a frame, the model takes "
                          f"{taken[0]}x{taken[1]}: use --model.num-latents {made[0]} --model.latent-dim {made[1]}")


def encoded(store: Store, tokenizer: Tokenizer, mark: str, run: DynamicsRun, place: Place) -> LatentStore:
    """The data set's latents, made now if they are not there yet: by one process, the others wait."""
    folder = Path(run.latents or Path(run.tokenizer) / "latents" / store.fingerprint[:12])
    if place.writes:
        encode_store(tokenizer, store, folder, device=place.device)
    place.agree(True)
    latents = LatentStore.open(folder)
    latents.check(mark, store)
    return latents


def held_out(store: Store, latents: LatentStore, tokenizer: Tokenizer, run: DynamicsRun,
             place: Place) -> Evaluate | None:
    """The check during training: dreams of held-out episodes, 16 frames after 16 of context; the best by LPIPS, or by
    PSNR where there is none, are kept."""
    length = CONTEXT + HORIZON
    if not any(info.frames >= length for info in store.split("held_out")):
        if place.writes:
            print(f"{store.path} has no held-out episode of {length} frames: training goes unchecked", file=sys.stderr)
        return None
    lpips = perceptual(store, place)
    seen = ("held_out", run.train.evaluation_clips, length)
    clip = evaluation_latents(store, latents, *seen).to(place.device)
    truth = evaluation_clips(store, *seen).video[:, CONTEXT:].to(place.device).float() / 255

    def evaluate(dynamics: Dynamics) -> Check:
        made = pictures_of(tokenizer, clip, roll_out(dynamics, clip, CONTEXT))
        metrics = ReconstructionMetrics(lpips)
        metrics.update(made, truth)
        found = metrics.compute() | {f"psnr_{h}": metrics.by_frame()["psnr"][h - 1] for h in (1, 8, HORIZON)}
        found.pop("frames")
        shown = torch.stack([truth[:SHOWN, [7, -1]], made[:SHOWN, [7, -1]]])
        rows = rearrange(shown, "kind b t c h w -> (t kind) b c h w").cpu()
        score = -found["lpips"] if lpips else found["psnr"]
        return Check(found, picture(rows), score, f"{'LPIPS' if lpips else 'PSNR'} of {len(truth)} dreams")

    return evaluate  # type: ignore[return-value]
