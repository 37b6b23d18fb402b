"""A data set to latents: frames per second of the tokenizer, as `wakedream train dynamics` encodes before it trains."""

from collections.abc import Iterator

import torch

from wakedream.bench.config import BenchConfig
from wakedream.bench.flops import tokenizer_flops
from wakedream.bench.kernels import attention_kernels
from wakedream.bench.machine import Machine
from wakedream.bench.reference import geometry
from wakedream.bench.result import Result
from wakedream.bench.synthetic import random_pixels
from wakedream.bench.timing import Peak, Spread, repeat, warm_up
from wakedream.data.codec import CHUNK_FRAMES
from wakedream.dynamics.encode import Encoder
from wakedream.tokenizer.tokenizer import Tokenizer

NAME = "encode"
USUAL = {"cuda": "crafter", "cpu": "demo"}
ROWS = {"cuda": 64, "cpu": 8}  # videos side by side


def encode(config: BenchConfig, machine: Machine) -> Iterator[Result]:
    """A row for each number of videos side by side: 16 frames of each at a time, with their past and each alone."""
    device = machine.device
    name = USUAL[device.type] if config.preset == "reference" else config.preset
    torch.manual_seed(0)
    tokenizer = Tokenizer(geometry(name).model)
    for rows in config.batch_sizes or (ROWS[device.type],):
        settings = {"geometry": name, "videos": rows, "implementation": "eager",
                    "precision": "bf16" if device.type == "cuda" else "float32"}
        try:
            yield _measure(tokenizer, rows, settings, config, machine)
        except torch.OutOfMemoryError as error:
            yield Result(NAME, settings, "chunk", None, notes=(f"out of memory: {str(error).splitlines()[0]}",))


def _measure(tokenizer: Tokenizer, rows: int, settings: dict, config: BenchConfig, machine: Machine) -> Result:
    device, own, peak = machine.device, tokenizer.config, Peak(machine.device)
    encoder = Encoder(tokenizer, rows, device)
    video = random_pixels((rows, CHUNK_FRAMES, *own.frame_size, own.channels), device)
    new = torch.zeros(rows, dtype=torch.bool, device=device)

    def work() -> object:
        return encoder(video, new)

    warm_up(work, device, config.warmup)
    (times,) = repeat([work], device, config.seconds, config.repeats)
    after, alone = tokenizer_flops(tokenizer, CHUNK_FRAMES, past=own.window), tokenizer_flops(tokenizer, 1)
    flops = rows * (after.embed + after.encode + CHUNK_FRAMES * (alone.embed + alone.encode))
    return Result(NAME, settings, "chunk", Spread.of(times), rows * CHUNK_FRAMES, flops,
                  precision=settings["precision"], memory_gib=peak.gib(), attention=attention_kernels(work, device))
