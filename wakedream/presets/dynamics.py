"""Complete configs of dynamics models by name: what, for how long, and the number to expect. Imports no torch."""

from collections.abc import Callable
from dataclasses import replace

from wakedream.config import suggest
from wakedream.dynamics.config import DynamicsConfig, DynamicsObjectiveConfig, LatentLoaderConfig
from wakedream.stages.config import DynamicsRun
from wakedream.training.config import OptimConfig, TrainConfig


def debug() -> DynamicsRun:
    """For latents of the tokenizer `debug`: a minute on two CPU cores, every part in use, dreams without shape."""
    return DynamicsRun(
        model=DynamicsConfig(num_latents=16, latent_dim=16, dim=64, depth=2, heads=2, mlp_dim=128, num_registers=2,
                             pattern=("space", "time"), window=8, finest_steps=8),
        objective=DynamicsObjectiveConfig(bootstrap_from=200),
        loader=LatentLoaderConfig(batch_size=8, length=16, short=8),
        optim=OptimConfig(),
        train=TrainConfig(steps=600, warmup_steps=20, ema_decay=0.99, evaluate_every=200, evaluation_clips=8,
                          save_every=300, compile="off"),
    )


def demo() -> DynamicsRun:
    """For latents of the tokenizer `demo`, two minutes on two CPU cores: 16.2 dB after 16 frames (last frame: 15.1)."""
    return DynamicsRun(
        model=DynamicsConfig(num_latents=16, latent_dim=32, packing=2, dim=128, depth=4, heads=2, mlp_dim=384,
                             num_registers=2, pattern=("space", "time"), window=16, finest_steps=16),
        objective=DynamicsObjectiveConfig(bootstrap_from=400),
        loader=LatentLoaderConfig(batch_size=8, length=16, short=8, long_fraction=0.65, image_fraction=0.1),
        optim=OptimConfig(adamw_lr=3e-3),
        train=TrainConfig(steps=100_000, minutes=2.0, warmup_steps=50, ema_decay=0.995, evaluate_every=500,
                          evaluation_clips=8, save_every=5000, compile="off"),
    )


def crafter() -> DynamicsRun:
    """64x64 games on one GPU, latents of the tokenizer `crafter`: 16 x 32, 27 M parameters, window of 32 frames.
    In 6.5 of its 20 minutes: 19.1 dB after 8 frames, 17.3 after 16; 97 % of moves obeyed (docs/log.md)."""
    return DynamicsRun(
        model=DynamicsConfig(num_latents=16, latent_dim=32, dim=512, depth=8, heads=8, mlp_dim=1536,
                             pattern=("space", "time"), window=32),
        objective=DynamicsObjectiveConfig(),
        loader=LatentLoaderConfig(batch_size=16, length=64, short=16, long_fraction=0.65, image_fraction=0.1),
        optim=OptimConfig(),
        train=TrainConfig(steps=200_000, minutes=20.0, warmup_steps=200, ema_decay=0.999, evaluate_every=2000,
                          evaluation_clips=32, save_every=10_000),
    )


def coinrun() -> DynamicsRun:
    """As `crafter`, for shorter episodes: rows of 32 frames, dense layers, which see where a scrolling picture comes
    from. In 11 of its 20 minutes: 22.9 dB after 8 frames, 19.7 after 16; 96 % of moves obeyed (docs/log.md)."""
    recommended = crafter()
    return replace(recommended, model=replace(recommended.model, window=24, pattern=("dense",)),
                   loader=replace(recommended.loader, batch_size=32, length=32))


def crafter_small() -> DynamicsRun:
    """That of the world `crafter-small`: 5.2 M parameters, for two CPU cores to play with. 98 % of moves obeyed."""
    recommended = crafter()
    return replace(
        recommended,
        model=DynamicsConfig(num_latents=32, latent_dim=32, packing=2, dim=256, depth=6, heads=4, mlp_dim=768,
                             num_registers=2, pattern=("space", "time"), window=32, told=True),
        loader=replace(recommended.loader, batch_size=32),
        train=replace(recommended.train, minutes=5.5, evaluate_every=5000))


def paper() -> DynamicsRun:
    """For latents of the tokenizer `paper`: 256 spatial tokens, window of 192 frames, 1.6 B parameters."""
    return DynamicsRun(
        model=DynamicsConfig(num_latents=512, latent_dim=16, packing=2, dim=2048, depth=36, heads=16, kv_heads=2,
                             mlp_dim=5632, window=192),
        objective=DynamicsObjectiveConfig(bootstrap_from=20_000),
        loader=LatentLoaderConfig(batch_size=4, length=256, short=64, source="stored"),
        optim=OptimConfig(lr=0.005, adamw_lr=3e-4),
        train=TrainConfig(steps=300_000, warmup_steps=1000, ema_decay=0.9995, evaluate_every=5000, evaluation_clips=4,
                          save_every=5000, parallel="fsdp", recompute=True),
    )


PRESETS: dict[str, Callable[[], DynamicsRun]] = {
    "debug": debug, "demo": demo, "crafter": crafter, "coinrun": coinrun, "crafter-small": crafter_small,
    "paper": paper,
}


def dynamics_preset(name: str) -> DynamicsRun:
    """The preset's complete config; ConfigError with the nearest name if there is none."""
    if name not in PRESETS:
        raise suggest("dynamics preset", name, PRESETS)
    return PRESETS[name]()
