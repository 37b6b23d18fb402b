"""Complete configs of tokenizers by name: what, for how long, and the number to expect. Imports no torch."""

from collections.abc import Callable
from dataclasses import replace

from wakedream.config import suggest
from wakedream.data.config import LoaderConfig
from wakedream.stages.config import TokenizerRun
from wakedream.tokenizer.config import TokenizerObjectiveConfig
from wakedream.tokenizer.shapes import SHAPES
from wakedream.training.config import OptimConfig, TrainConfig


def debug() -> TokenizerRun:
    """64x64, two layers a side: a minute on two CPU cores, blurred pictures, every part in use but LPIPS."""
    return TokenizerRun(
        model=SHAPES["debug"],
        objective=TokenizerObjectiveConfig(lpips_weight=0.0),
        loader=LoaderConfig(batch_size=4, length=4),
        optim=OptimConfig(),
        train=TrainConfig(
            steps=600, warmup_steps=20, ema_decay=0.99, evaluate_every=200, save_every=300, compile="off"
        ),
    )


def demo() -> TokenizerRun:
    """64x64 Crafter by day on two CPU cores, what `make demo` trains in 4 minutes: 26.7 dB, LPIPS 0.010."""
    return TokenizerRun(
        model=SHAPES["demo"],
        objective=TokenizerObjectiveConfig(mask_ratio=0.0, moving_weight=20.0, lpips_weight=0.05, lpips_fraction=0.25),
        loader=LoaderConfig(batch_size=8, length=4),
        optim=OptimConfig(muon_on="linear", lr=0.005, adamw_lr=1e-3),
        train=TrainConfig(steps=100_000, minutes=4.0, warmup_steps=50, ema_decay=0.995, evaluate_every=1000,
                          save_every=5000, save_minutes=3.0),
    )


def crafter() -> TokenizerRun:
    """64x64 games on one GPU, eight minutes: recommended. 16 latents x 32. After 60 seconds (one H100): 43.8 dB on what
    moves in Pong, 42.9 in Breakout, 35.5 in Crafter, 29.1 in CoinRun (docs/log.md)."""
    return TokenizerRun(
        model=SHAPES["crafter"],
        objective=TokenizerObjectiveConfig(mask_ratio=0.0, moving_weight=20.0, shift=4),
        loader=LoaderConfig(batch_size=32, length=16, workers=8, prefetch=16, cache_gib=16.0),
        optim=OptimConfig(muon_on="linear", lr=0.005, adamw_lr=1e-3),
        train=TrainConfig(
            steps=200_000,
            minutes=8.0,
            warmup_steps=200,
            ema_decay=0.999,
            evaluate_every=1000,
            save_every=5000,
        ),
    )


def crafter_small() -> TokenizerRun:
    """That of the world `crafter-small`: 32 latents x 32, 3.7 M parameters, for two CPU cores to play with. 37.0 dB on
    what moves in Crafter."""
    recommended = crafter()
    return replace(recommended, model=SHAPES["crafter-small"], train=replace(recommended.train, minutes=1.75))


def seed() -> TokenizerRun:
    """The seed's geometry, corrected: one transformer of 6 dense layers, 48 of 64 patches masked (docs/paper.md)."""
    recommended = crafter()
    return replace(
        recommended,
        model=SHAPES["seed"],
        objective=TokenizerObjectiveConfig(mask="fixed", mask_ratio=0.75),
        optim=OptimConfig(lr=0.02, adamw_lr=1e-3),
    )


def paper() -> TokenizerRun:
    """360x640 padded to 384x640, 512 latents x 16, about 400 M parameters."""
    return TokenizerRun(
        model=SHAPES["paper"],
        objective=TokenizerObjectiveConfig(lpips_fraction=0.25),
        loader=LoaderConfig(batch_size=1, length=16, workers=12, prefetch=8),
        optim=OptimConfig(lr=0.01, adamw_lr=3e-4),
        train=TrainConfig(
            steps=200_000,
            warmup_steps=1000,
            ema_decay=0.9995,
            evaluate_every=2000,
            evaluation_clips=4,
            save_every=5000,
        ),
    )


PRESETS: dict[str, Callable[[], TokenizerRun]] = {
    "debug": debug,
    "demo": demo,
    "crafter": crafter,
    "crafter-small": crafter_small,
    "seed": seed,
    "paper": paper,
}


def tokenizer_preset(name: str) -> TokenizerRun:
    """The preset's complete config; ConfigError with the nearest name if there is none."""
    if name not in PRESETS:
        raise suggest("tokenizer preset", name, PRESETS)
    return PRESETS[name]()
