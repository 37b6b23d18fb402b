"""Stage 1: a tokenizer learns to reconstruct video."""

from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path

import torch
from torch import Tensor

from wakedream.config import to_dict
from wakedream.data.background import stills
from wakedream.data.loader import Loader, evaluation_clips
from wakedream.data.store import Store
from wakedream.evaluation.baseline import reconstruction_verdict
from wakedream.evaluation.metrics import ReconstructionMetrics
from wakedream.evaluation.tokenizer.reconstruction import judging_split
from wakedream.notation import Frames, Video
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


def train_tokenizer(run: TokenizerRun, data: Path | str, out: Path | str, preset: str = "custom") -> None:
    """See `train_stage`."""
    train_stage(TokenizerStage, run, data, out, preset)


class TokenizerStage(Stage):
    NAME, MODEL = "tokenizer", Tokenizer
    run: TokenizerRun

    def __init__(self, run: TokenizerRun, store: Store, place: Place):
        super().__init__(run, store, place)
        check_frames(store, run.model)

    @cached_property
    def stills(self) -> tuple[Tensor, Tensor]:
        """Mean image and background of what is learned from."""
        return stills(self.store)

    def model(self) -> Tokenizer:
        return Tokenizer(self.run.model)

    def objective(self, model: Tokenizer, perception: Perception) -> TokenizerObjective:
        config = self.run.objective
        lpips = perception.of(config.lpips_net) if config.lpips_weight else None
        behind = self.stills[1] if config.moving_weight != 1 else None
        return TokenizerObjective(model, config, lpips, behind)

    def batches(self) -> Loader:
        run, place = self.run, self.place
        return Loader(self.store, split="train", seed=run.train.seed, device=place.device, rank=place.rank,
                      world_size=place.world_size, **to_dict(run.loader))

    def check(self, perception: Perception) -> Evaluate | None:
        """Numbers and a picture of fixed held-out clips, nothing masked."""
        run, store, place = self.run, self.store, self.place
        split = judging_split(store, place.writes)
        video = evaluation_clips(store, split, run.train.evaluation_clips, run.loader.length).video
        mean, behind = (image.to(place.device) for image in self.stills)
        seen = partial(compare, video=video, batch_size=run.loader.batch_size, behind=behind)
        least = seen(lambda truth: mean.expand_as(truth), lpips=None).values

        def evaluate(model: Tokenizer) -> Check:
            found = seen(model.reconstruct, lpips=perception.lpips)
            found.verdict = reconstruction_verdict(found.values, least)
            if "psnr_moving" in least:
                found.values["psnr_moving_mean_image"] = least["psnr_moving"]
            return found

        return evaluate  # type: ignore[return-value]


def compare(reconstruct: Callable[[Frames], Frames], video: Video, batch_size: int, behind: Tensor,
            lpips: LPIPS | None) -> Check:
    """PSNR (-10 log10 of the pooled MSE), that of what moves before `behind` (c h w), SSIM and LPIPS of `video`, and
    truth above reconstruction."""
    metrics, shown = ReconstructionMetrics(lpips, behind), []
    for part in video.split(batch_size):
        truth = part.to(behind.device).float() / 255
        made = reconstruct(truth)
        metrics.update(made, truth)
        shown.append(torch.stack([truth[:, -1], made[:, -1]]).cpu())
    found = metrics.compute()
    found.pop("frames")
    return Check(found, picture(torch.cat(shown, dim=1)[:, :SHOWN]))
