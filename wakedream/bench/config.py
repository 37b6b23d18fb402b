"""Options of `wakedream bench`, and which benchmarks there are. Imports no torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from wakedream.bench.reference import known_geometries
from wakedream.config import check, suggest
from wakedream.presets.dynamics import PRESETS as DYNAMICS

BENCHMARKS = {
    "tokenizer-train": "wakedream.bench.tokenizer_train:tokenizer_train",
    "tokenizer-stream": "wakedream.bench.tokenizer_stream:tokenizer_stream",
    "encode": "wakedream.bench.encode:encode",
    "dynamics-train": "wakedream.bench.dynamics_train:dynamics_train",
    "dream": "wakedream.bench.dream:dream",
    "imagination": "wakedream.bench.imagination:imagination",
    "loader": "wakedream.bench.loader:loader",
}  # name -> "module:function", called with (config, machine); yields a Result for every row of its table

OF_DYNAMICS = ("dynamics-train", "dream", "imagination")
STREAMS = ("dream", "tokenizer-stream")  # make one frame after the other, from a copy in any precision


@dataclass(frozen=True)
class BenchConfig:
    """Measure speed beside the limits of this machine, which are measured in the same run.

    Benchmarks: tokenizer-train and dynamics-train (the training step), tokenizer-stream (one frame at a time), encode
    (a data set to latents), dream (the next frame of dreams), imagination (an agent's rollouts and updates), loader
    (data). All of them unless some are named. What each number means: docs/benchmarks.md.
    """

    names: tuple[str, ...] = ()
    """tokenizer-train, dynamics-train (the training step), tokenizer-stream (frame by frame), encode (data to latents),
    dream (frames of dreams), imagination (of an agent in them), loader (data); all if none is named"""
    baseline: bool = False
    """tokenizer-train: a plain implementation of the same model in turns with ours, and the ratio"""
    baseline_compile: bool = False
    """compile the plain implementation too (it runs eagerly otherwise)"""
    out: Path | None = None
    """write the results to this JSON file, row by row, in place of one that is there"""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N"""
    preset: str = "reference"
    """geometry: 'reference' (64x64, 8x8 patches, d = 256, 16 latents x 32, 16 frames; for dynamics models those of some
    presets) or a preset's"""
    batch_sizes: tuple[int, ...] = ()
    """clips per batch, streams or dreams side by side; default: 8 32 128 on GPUs and 2 on CPUs, for a preset its own;
    for tokenizer-stream 1 16, for encode 64, for dream 1 64 1024, on CPUs 1 8, for imagination 64 1024, on CPUs 8, for
    the loader 32"""
    sampling_steps: int = 4
    """dream, imagination: sampling steps K for each frame"""
    length: int | None = None
    """frames per clip; default: the preset's"""
    optimizers: tuple[Literal["adamw", "muon"], ...] = ("adamw", "muon")
    """tokenizer-train: a row for each"""
    lpips: bool = True
    """tokenizer-train: one more row with LPIPS, if its weights are there"""
    recompute: bool = False
    """as in training: layers are computed again in the backward pass, for less memory"""
    precision: Literal["bf16", "float32", "fp8"] = "bf16"
    """bf16: mixed precision where the device has it; fp8: for dream and tokenizer-stream, where the GPU has it; streams
    on a CPU are float32 in any case"""
    compile: Literal["auto", "on", "off"] | None = None
    """as --train.compile; default: the preset's"""
    seconds: float = 3.0
    """measuring time for each row"""
    repeats: int = 10
    """parts into which it is divided; the median and the spread are those of the parts"""
    warmup: int | None = None
    """calls before the clock starts; default: 12 on GPUs, 3 on CPUs"""
    threads: int | None = None
    """CPU threads; default: all cores"""
    data: Path | None = None
    """loader: a data set to read; default: one is made, of drawn scenes of 64x64"""
    workers: int | None = None
    """loader: threads that unpack; default: one for each core, at most 8"""
    loader_frames: int = 8192
    """loader: frames of the data set that is made"""
    video_frames: int = 150
    """loader: frames of the 640x360 video that is made"""
    need: float | None = None
    """loader: frames/s that training asks for; default: the best row of tokenizer-train, if it ran"""

    def __post_init__(self) -> None:
        for name in self.names:
            if name not in BENCHMARKS:
                raise suggest("benchmark", name, BENCHMARKS)
        if self.preset not in known_geometries():
            raise suggest("geometry", self.preset, known_geometries())
        check(all(size >= 1 for size in self.batch_sizes), f"batch_sizes must be at least 1, got {self.batch_sizes}")
        for name in self.names:
            check(name not in OF_DYNAMICS or self.preset in ("reference", *DYNAMICS),
                  f"{name}: the preset '{self.preset}' has no dynamics model; known: {', '.join(DYNAMICS)}")
        check(self.precision != "fp8" or (bool(self.names) and set(self.names) <= set(STREAMS)),
              f"precision fp8 is for {' and '.join(STREAMS)}: name one of them, or take bf16")
        for name in ("length", "sampling_steps", "repeats", "threads", "workers", "loader_frames", "video_frames"):
            value = getattr(self, name)
            check(value is None or value >= 1, f"{name} must be at least 1, got {value}")
        check(self.warmup is None or self.warmup >= 1, f"warmup must be at least 1, got {self.warmup}")
        check(self.seconds > 0, f"seconds must be positive, got {self.seconds}")
        check(self.need is None or self.need > 0, f"need must be positive, got {self.need}")
        check(bool(self.optimizers), "optimizers: expected adamw, muon or both, got none")
