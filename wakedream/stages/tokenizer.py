"""Stage 1: a tokenizer learns to reconstruct video."""

import sys
from pathlib import Path

import torch

from wakedream.config import to_dict
from wakedream.data.loader import Loader, evaluation_clips
from wakedream.data.store import Store
from wakedream.evaluation.metrics import ReconstructionMetrics
from wakedream.notation import Video
from wakedream.perceptual.lpips import LPIPS
from wakedream.stages.checks import SHOWN, Perception, picture
from wakedream.stages.config import TokenizerRun
from wakedream.stages.skeleton import Stage, train_stage
from wakedream.tokenizer.fitting import check_frames
from wakedream.tokenizer.objective import TokenizerObjective
from wakedream.tokenizer.tokenizer import Tokenizer
from wakedream.training.distributed import Place
from wakedream.training.loop import Evaluate
from wakedream.training.metrics import Check


def train_tokenizer(run: TokenizerRun, data: Path, out: Path, preset: str = "custom") -> None:
    """See `train_stage`."""
    train_stage(TokenizerStage, run, data, out, preset)


class TokenizerStage(Stage):
    NAME, MODEL = "tokenizer", Tokenizer
    run: TokenizerRun

    def __init__(self, run: TokenizerRun, store: Store, place: Place):
        super().__init__(run, store, place)
        check_frames(store, run.model)

    def model(self) -> Tokenizer:
        return Tokenizer(self.run.model)

    def objective(self, model: Tokenizer, perception: Perception) -> TokenizerObjective:
        config = self.run.objective
        return TokenizerObjective(model, config, perception.of(config.lpips_net) if config.lpips_weight else None)

    def batches(self) -> Loader:
        run, place = self.run, self.place
        return Loader(self.store, split="train", seed=run.train.seed, device=place.device, rank=place.rank,
                      world_size=place.world_size, **to_dict(run.loader))

    def check(self, perception: Perception) -> Evaluate | None:
        """Numbers and a picture of fixed held-out clips, nothing masked."""
        run, store, place = self.run, self.store, self.place
        if not store.split("held_out"):
            if place.writes:
                print(f"{store.path} has no held-out episodes: training goes unchecked", file=sys.stderr)
            return None
        video = evaluation_clips(store, "held_out", run.train.evaluation_clips, run.loader.length).video
        return lambda model: compare(model, video, run.loader.batch_size, perception.lpips,  # type: ignore[arg-type]
                                     place.device)


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
