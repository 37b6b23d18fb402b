"""Stage 1: a tokenizer learns to reconstruct video."""

import contextlib
import sys
from pathlib import Path

import torch

from wakedream import runs
from wakedream.config import to_dict
from wakedream.data.loader import Loader, evaluation_clips
from wakedream.data.store import Store
from wakedream.errors import ConfigError
from wakedream.evaluation.metrics import ReconstructionMetrics
from wakedream.notation import Video
from wakedream.perceptual.lpips import LPIPS
from wakedream.stages.checks import SHOWN, perceptual, picture
from wakedream.stages.config import TokenizerRun
from wakedream.tokenizer.config import TokenizerConfig
from wakedream.tokenizer.objective import TokenizerObjective
from wakedream.tokenizer.tokenizer import Tokenizer
from wakedream.training.distributed import Place, join
from wakedream.training.loop import Evaluate, fit
from wakedream.training.metrics import Check
from wakedream.training.optim import build_optimizers
from wakedream.training.run_config import claim, identity


def train_tokenizer(run: TokenizerRun, data: Path, out: Path, preset: str = "custom") -> None:
    """Train on the data set `data` into the run folder `out`, going on from its latest checkpoint.

    DataError, ConfigError, WeightsError, RunError before anything is written; Interrupted after saving.
    """
    with join(run.train.device) as place, contextlib.ExitStack() as stack:
        store = Store.open(data)
        check_shape(store, run.model)
        torch.manual_seed(run.train.seed)
        objective = TokenizerObjective(Tokenizer(run.model), run.objective)
        if place.writes:
            stack.enter_context(runs.locked(out))
            source = {"path": str(data), "fingerprint": store.fingerprint}
            claim(out, identity("tokenizer", preset, to_dict(run), data=source))

        def optimizers(model: torch.nn.Module) -> list[torch.optim.Optimizer]:
            return build_optimizers(model, run.optim)

        loader = stack.enter_context(open_loader(store, run, place))
        torch.manual_seed(run.train.seed + place.rank)  # every process masks in its own way
        batch_frames = run.loader.batch_size * run.loader.length
        state = fit(objective, optimizers, loader, run.train, place, out, batch_frames, held_out(store, run, place),
                    label="tokenizer")
    if place.writes:
        print(f"{out}: {state.step:,} steps. Next: wakedream evaluate {out} --data {data}")


def check_shape(store: Store, config: TokenizerConfig) -> None:
    """ConfigError unless the frames of the data set are what the tokenizer takes."""
    expected = (config.height, config.width, config.channels)
    if store.frame_shape != expected:
        (h, w, c), (eh, ew, ec) = store.frame_shape, expected
        raise ConfigError(f"the data set {store.path} has frames of {h}x{w} with {c} channels, the tokenizer "
                          f"takes {eh}x{ew} with {ec}: use --model.height {h} --model.width {w} "
                          f"--model.channels {c}, or record or ingest the data at {eh}x{ew}")


def open_loader(store: Store, run: TokenizerRun, place: Place) -> Loader:
    return Loader(store, split="train", seed=run.train.seed, device=place.device, rank=place.rank,
                  world_size=place.world_size, **to_dict(run.loader))


def held_out(store: Store, run: TokenizerRun, place: Place) -> Evaluate | None:
    """The check during training: numbers and a picture of fixed held-out clips, nothing masked."""
    if not store.split("held_out"):
        if place.writes:
            print(f"{store.path} has no held-out episodes: training goes unchecked", file=sys.stderr)
        return None
    video = evaluation_clips(store, "held_out", run.train.evaluation_clips, run.loader.length).video
    lpips = perceptual(store, place)

    def evaluate(tokenizer: Tokenizer) -> Check:
        return compare(tokenizer, video, run.loader.batch_size, lpips, place.device)

    return evaluate  # type: ignore[return-value]


def compare(tokenizer: Tokenizer, video: Video, batch_size: int, lpips: LPIPS | None, device: torch.device) -> Check:
    """PSNR (-10 log10 of the pooled MSE), SSIM and LPIPS of `video`, and truth above reconstruction."""
    metrics, shown = ReconstructionMetrics(lpips), []
    for part in video.split(batch_size):
        truth = part.to(device).float() / 255
        made = tokenizer.reconstruct(truth)
        metrics.update(made, truth)
        shown.append(torch.stack([truth[:, -1], made[:, -1]]).cpu())
    found = metrics.compute()
    found.pop("frames")
    return Check(found, picture(torch.cat(shown, dim=1)[:, :SHOWN]))
