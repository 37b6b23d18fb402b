"""`wakedream evaluate`: a run's tokenizer on held-out episodes, as numbers and as a page."""

import json
import platform
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from wakedream import __version__, runs
from wakedream.data.store import Store
from wakedream.errors import ConfigError
from wakedream.evaluation.config import EvaluateConfig
from wakedream.evaluation.pictures import heat, take_pictures
from wakedream.evaluation.reconstruction import check_data, evaluate_tokenizer
from wakedream.evaluation.report import UNITS, write_report
from wakedream.tokenizer.perceptual import LPIPS
from wakedream.tokenizer.tokenizer import Tokenizer

DEFAULT_LENGTH = 16  # of the training clip, where the run does not say


def evaluate(config: EvaluateConfig) -> None:
    """Measure, write metrics.json and index.html to `config.out`, print the headline.

    CheckpointError without usable weights, DataError for frames of another size or no held-out episodes,
    WeightsError without LPIPS weights: all before anything is written.
    """
    device = pick_device(config.device)
    tokenizer = Tokenizer.from_pretrained(config.run).to(device).eval()
    store = Store.open(config.data)
    check_data(tokenizer, store, "held_out")
    lpips = LPIPS.load(config.lpips_net).to(device) if config.lpips else None
    trained = _training_length(config.run)
    length = config.length or _fitting_length(store, trained or DEFAULT_LENGTH)
    out = config.out or config.run / "evaluation"
    with runs.locked(out):
        started = time.perf_counter()
        results, maps = evaluate_tokenizer(
            tokenizer,
            store,
            clips=config.clips,
            length=length,
            lpips=lpips,
            training_length=trained,
            seed=config.seed,
        )
        results = _about(tokenizer, store, config, device) | results
        results["seconds"] = round(time.perf_counter() - started, 1)
        pictures = take_pictures(tokenizer, store, length, videos=config.videos, seed=config.seed)
        pictures.maps = dict(zip(results["latents"]["influence"]["latent"], heat(maps), strict=True))
        page = write_report(out, results, pictures, metrics_file=config.run / "metrics.jsonl")
    _print(results, page)


def pick_device(name: str) -> torch.device:
    """auto: the GPU where there is one. ConfigError when the one asked for is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"--device {name} cannot be used ({error}): expected auto, cpu, cuda or cuda:N") from error
    return device


def _training_length(run: Path) -> int | None:
    """Frames per clip in training, from the run's config.json; None for a bare weights folder."""
    file = run / "config.json"
    values = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return values.get("config", {}).get("loader", {}).get("length")


def _fitting_length(store: Store, trained: int) -> int:
    """Twice the training clip, to see beyond it, where half of the held-out episodes are that long."""
    lengths = sorted(info.frames for info in store.split("held_out"))
    median, longest = lengths[len(lengths) // 2], lengths[-1]
    return 2 * trained if median >= 2 * trained else min(trained, longest)


def _about(tokenizer: Tokenizer, store: Store, config: EvaluateConfig, device: torch.device) -> dict[str, Any]:
    own = tokenizer.config
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    return {
        "tokenizer": {
            "run": str(config.run),
            "frame_size": list(own.frame_size),
            "num_latents": own.num_latents,
            "latent_dim": own.latent_dim,
            "parameters": sum(p.numel() for p in tokenizer.parameters()),
        },
        "data": {"path": str(store.path), "fingerprint": store.fingerprint},
        "lpips_net": config.lpips_net if config.lpips else None,
        "device": name,
        "date": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
        "versions": {
            "wakedream": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }


def _print(results: dict[str, Any], page: Path) -> None:
    for row in results["reconstruction"]:
        shown = "  ".join(f"{unit.split(',')[0]} {row[name]:.4g}" for name, unit in UNITS.items() if name in row)
        print(f"{row['of']:>10}, {row['frames_of']}: {shown}  ({row['frames']} frames)")
    print(f"page: {page}")
