"""`wakedream evaluate` of a tokenizer."""

import json
from pathlib import Path
from typing import Any

import torch

from wakedream.data.store import Store
from wakedream.evaluation.baseline import reconstruction_verdict
from wakedream.evaluation.config import EvaluateTokenizerConfig
from wakedream.evaluation.page.report import UNITS
from wakedream.evaluation.tokenizer.pictures import heat, take_pictures
from wakedream.evaluation.tokenizer.probe import probe
from wakedream.evaluation.tokenizer.reconstruction import RATIOS, check_data, evaluate_tokenizer
from wakedream.evaluation.tokenizer.report import probe_lines, sections, write_picture
from wakedream.perceptual.lpips import LPIPS
from wakedream.runs import run_of
from wakedream.tokenizer.tokenizer import Tokenizer

DEFAULT_CLIPS, DEFAULT_LENGTH = 32, 16  # of the training clip, where the run does not say
PROBED, CPU_PROBED = 20_000, 6_000  # frames


class TokenizerEvaluation:
    """As evaluate.Evaluation says."""

    title = "tokenizer"

    def __init__(self, config: EvaluateTokenizerConfig, store: Store, device: torch.device, lpips: LPIPS | None):
        self.config, self.store, self.lpips = config, store, lpips
        self.tokenizer = Tokenizer.from_pretrained(config.run).to(device).eval()
        check_data(self.tokenizer, store)
        training = _training(config.run)
        self.trained = training.get("loader", {}).get("length")
        self.masked = training.get("objective", {}).get("mask_ratio") != 0  # else it was never asked to fill gaps
        self.length = config.length or _fitting_length(store, self.trained or DEFAULT_LENGTH)

    def measure(self) -> dict[str, Any]:
        results, self.maps = evaluate_tokenizer(
            self.tokenizer, self.store, clips=self.config.clips or DEFAULT_CLIPS, length=self.length,
            training_length=self.trained, lpips=self.lpips, ratios=RATIOS if self.masked else (0.0,),
            seed=self.config.seed)
        own, mean = results["reconstruction"][:2]
        return self._about() | {"verdict": reconstruction_verdict(own, mean)} | results | {"probe": self._probe()}

    def sections(self, results: dict[str, Any], out: Path) -> list[str]:
        pictures = take_pictures(self.tokenizer, self.store, self.length, videos=self.config.videos,
                                 seed=self.config.seed, masked=self.masked)
        pictures.maps = dict(zip(results["latents"]["influence"]["latent"], heat(self.maps), strict=True))
        write_picture(out, pictures)
        return sections(results, pictures)

    def lines(self, results: dict[str, Any]) -> list[str]:
        shown = []
        for row in results["reconstruction"]:
            numbers = (f"{unit.split(',')[0]} {row[name]:.4g}" for name, unit in UNITS.items() if name in row)
            shown.append(f"{row['of']:>10}, {row['frames_of']}: {'  '.join(numbers)}  ({row['frames']} frames)")
        shown += probe_lines(results["probe"])
        if results["probe"] is None and self.store.extras and self.config.probe != 0:
            shown.append("left out: what is read from the latents: that takes two episodes to learn from and one to be "
                         "judged by, in which all extras are known")
        return [*shown, *filter(None, [results["verdict"]])]

    def _probe(self) -> dict[str, Any] | None:
        frames = self.config.probe
        if frames is None:
            frames = CPU_PROBED if self.tokenizer.mask_token.device.type == "cpu" else PROBED
        length = min(self.length, self.trained or DEFAULT_LENGTH)
        return probe(self.tokenizer, self.store, frames, length, self.config.seed) if frames else None

    def _about(self) -> dict[str, Any]:
        own = self.tokenizer.config
        return {
            "tokenizer": {
                "run": str(self.config.run), "frame_size": list(own.frame_size), "num_latents": own.num_latents,
                "latent_dim": own.latent_dim, "parameters": sum(p.numel() for p in self.tokenizer.parameters()),
            },
            "data": {"path": str(self.store.path), "fingerprint": self.store.fingerprint},
        }  # fmt: skip


def _training(run: Path) -> dict[str, Any]:
    """Options of training, from the run's config.json; none of a bare weights folder."""
    file = run_of(run) / "config.json"
    values = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return dict(values.get("config", {}))


def _fitting_length(store: Store, trained: int) -> int:
    """Twice the training clip, to see beyond it, where half of the held-out episodes are that long."""
    lengths = sorted(info.frames for info in store.split(store.judging_split))
    median, longest = lengths[len(lengths) // 2], lengths[-1]
    return 2 * trained if median >= 2 * trained else min(trained, longest)
