"""Options of training, the same for every stage. Imports no torch."""

from dataclasses import dataclass
from typing import Literal

from wakedream.config import check, check_seed


@dataclass(frozen=True)
class OptimConfig:
    """Muon for the matrices inside the transformers and AdamW for all else, or AdamW for everything."""

    name: Literal["muon", "adamw"] = "muon"
    """muon: matrices by Muon, all else by AdamW; adamw: everything by AdamW"""
    muon_on: Literal["layers", "linear"] = "layers"
    """layers: matrices of the repeated layers; linear: those of embeddings and heads too, much faster in the first
    minutes (docs/log.md)"""
    lr: float = 0.02
    """highest learning rate of Muon's matrices"""
    adamw_lr: float = 1e-3
    """highest learning rate of AdamW's parameters"""
    betas: tuple[float, float] = (0.9, 0.95)
    """AdamW's decay of the running mean and of the running square"""
    weight_decay: float = 0.0
    """decoupled weight decay of the matrices"""
    momentum: float = 0.95
    """Muon's momentum"""

    def __post_init__(self) -> None:
        check(min(self.lr, self.adamw_lr) > 0,
              f"learning rates must be positive, got {self.lr} and {self.adamw_lr}")
        check(all(0 <= beta < 1 for beta in (*self.betas, self.momentum)),
              f"betas and momentum must be in [0, 1), got {self.betas}, {self.momentum}")
        check(self.weight_decay >= 0, f"weight_decay must not be negative, got {self.weight_decay}")


@dataclass(frozen=True)
class TrainConfig:
    """How long, how exactly, and what is written on the way."""

    steps: int = 100_000
    """optimizer steps; training ends at steps or minutes, whichever comes first"""
    minutes: float | None = None
    """minutes of training: compiling and first steps, evaluation and saving do not count"""
    warmup_steps: int = 100
    """steps over which the learning rate rises from 0"""
    decay_fraction: float = 0.5
    """last share of training over which the learning rate falls to 0"""
    accumulate: int = 1
    """batches per optimizer step"""
    clip_norm: float | None = 1.0
    """longest gradient; longer ones are scaled down"""
    ema_decay: float = 0.999
    """decay of the averaged weights, which are what is evaluated and saved; lower in the first steps"""
    parallel: Literal["ddp", "fsdp", "hsdp"] = "ddp"
    """of several processes. ddp: each holds the whole model; fsdp: parameters, gradients, optimizer state and averages
    are split over them, for models that are too large for that; hsdp: split over those of a host, and every host has a
    copy"""
    recompute: bool = False
    """layers keep only their inputs and are computed again in the backward pass: less memory, about a third more
    time"""
    precision: Literal["bf16", "float32"] = "bf16"
    """bf16: mixed precision where the device has it"""
    compile: Literal["auto", "on", "off"] = "auto"
    """auto: on GPUs, and on CPUs if training is to take more than about two minutes"""
    seed: int = 0
    """seed of weights, masks and order of the data"""
    log_every: int = 20
    """steps between lines of metrics.jsonl"""
    evaluate_every: int = 500
    """steps between checks on held-out clips, with a picture"""
    evaluation_clips: int = 16
    """held-out clips of each check"""
    save_every: int = 1000
    """steps between checkpoints"""
    save_minutes: float | None = 10.0
    """and minutes of training between them, whichever comes first"""
    keep_checkpoints: int = 2
    """checkpoints to keep"""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N"""

    def __post_init__(self) -> None:
        counts = ("steps", "accumulate", "log_every", "evaluate_every", "evaluation_clips", "save_every",
                  "keep_checkpoints")
        for name in counts:
            check(getattr(self, name) >= 1, f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("minutes", "save_minutes", "clip_norm"):
            value = getattr(self, name)
            check(value is None or value > 0, f"{name} must be positive or None, got {value}")
        check_seed(self.seed, "--train.seed")
        check(self.warmup_steps >= 0, f"warmup_steps must not be negative, got {self.warmup_steps}")
        check(0 <= self.decay_fraction <= 1, f"decay_fraction must be in [0, 1], got {self.decay_fraction}")
        check(0 <= self.ema_decay < 1, f"ema_decay must be in [0, 1), got {self.ema_decay}")


MAY_CHANGE = (
    "train.steps", "train.minutes", "train.log_every", "train.evaluate_every", "train.evaluation_clips",
    "train.save_every", "train.save_minutes", "train.keep_checkpoints", "train.device", "train.compile",
    "train.parallel", "train.recompute", "loader.workers", "loader.prefetch", "loader.cache_gib",
    "loader.batch_size", "train.accumulate", "tokenizer", "world", "agent", "latents", "init",
    "objective.bootstrap_from",
)  # what a resumed run may set otherwise: none of it changes what the model sees (of paths the content is compared),
# except batch size and accumulation, with which another number of processes can have as many clips per step as before,
# and the first bootstrap step, which presets have moved: runs of before go on by the same command
