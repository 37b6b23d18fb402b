"""One frame at a time: milliseconds to encode and to decode it, eagerly, compiled and as CUDA graphs."""

import functools
import gc
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from wakedream.bench.config import BenchConfig
from wakedream.bench.flops import ring_numbers, tokenizer_flops, weight_numbers
from wakedream.bench.kernels import attention_kernels
from wakedream.bench.machine import Machine
from wakedream.bench.reference import geometry
from wakedream.bench.result import Result
from wakedream.bench.synthetic import random_pixels
from wakedream.bench.timing import Peak, Spread, Work, repeat, warm_up
from wakedream.tokenizer.tokenizer import Tokenizer
from wakedream.training.config import TrainConfig
from wakedream.training.distributed import wants_compile

NAME = "tokenizer-stream"
BYTES = {"float32": (4, 4), "bf16": (2, 2), "fp8": (1, 2)}  # of a weight and of a cached number
SMALL = "demo"  # what is measured beside the reference on a CPU, where paper size is out of reach


@dataclass(frozen=True)
class Mode:
    name: str
    graph: bool = False
    compile: bool = False


def tokenizer_stream(config: BenchConfig, machine: Machine) -> Iterator[Result]:
    """For each geometry, number of streams and way to run: a row to encode a frame of each, one to decode it."""
    large = "paper" if machine.device.type == "cuda" else SMALL
    for name in ("reference", large) if config.preset == "reference" else (config.preset,):
        torch.manual_seed(0)
        tokenizer = Tokenizer(geometry(name).model).to(machine.device).eval()
        for batch in config.batch_sizes or (1, 16):
            for mode in modes(config, machine.device):
                yield from _measure(tokenizer, name, batch, mode, config, machine)


def modes(config: BenchConfig, device: torch.device) -> list[Mode]:
    """Ways to run what makes one frame after the other."""
    compiles = wants_compile(TrainConfig(compile=config.compile or "auto"), device)
    if device.type == "cuda":
        graphs = [Mode("eager"), Mode("graph", graph=True)]
        return graphs + [Mode("compiled graph", graph=True, compile=True)] * compiles
    return [Mode("eager")] + [Mode("compiled", compile=True)] * compiles


def _measure(tokenizer: Tokenizer, name: str, batch: int, mode: Mode, config: BenchConfig,
             machine: Machine) -> list[Result]:
    """Ways to run that do not fit into memory say so."""
    device = machine.device
    precision = config.precision if device.type == "cuda" else "float32"  # as streams have it by default
    settings = {"geometry": name, "streams": batch, "implementation": mode.name, "precision": precision}
    torch.compiler.reset()
    gc.collect()
    try:
        peak = Peak(device)
        stream = tokenizer.stream(batch, precision=precision, graph=mode.graph, compile=mode.compile)
        works = {"encode": functools.partial(stream.encode, _frame(tokenizer, batch)),
                 "decode": functools.partial(stream.decode, _latent(tokenizer, batch))}
        rows = [_row({"direction": direction, **settings}, work, tokenizer, config, machine)
                for direction, work in works.items()]
        return [replace(row, memory_gib=peak.gib()) for row in rows]
    except torch.OutOfMemoryError as error:
        return [Result(NAME, settings, "frame", None, notes=(f"out of memory: {str(error).splitlines()[0]}",))]


def _frame(tokenizer: Tokenizer, batch: int) -> Tensor:
    config = tokenizer.config
    return random_pixels((batch, config.channels, *config.frame_size), tokenizer.mask_token.device)


def _latent(tokenizer: Tokenizer, batch: int) -> Tensor:
    config = tokenizer.config
    return torch.rand(batch, config.num_latents, config.latent_dim, device=tokenizer.mask_token.device) * 2 - 1


def _row(settings: dict, work: Work, tokenizer: Tokenizer, config: BenchConfig, machine: Machine) -> Result:
    device, batch, encodes = machine.device, settings["streams"], settings["direction"] == "encode"
    started, calls = warm_up(work, device, config.warmup)
    (times,) = repeat([work], device, config.seconds, config.repeats)
    seconds, precision = Spread.of(times), settings["precision"]
    counted = tokenizer_flops(tokenizer, 1, past=tokenizer.config.window)
    return Result(
        NAME, settings, "frame", seconds, batch,
        flops=batch * (counted.embed + counted.encode if encodes else counted.decode),
        bytes=least_bytes(tokenizer, batch, encodes, precision), precision=precision,
        compile_seconds=max(0.0, started - calls * seconds.median), attention=attention_kernels(work, device))


def least_bytes(tokenizer: Tokenizer, batch: int, encodes: bool, precision: str) -> float:
    """What must be read for a frame: the weights once, and every stream's cached keys and values."""
    config = tokenizer.config
    decoder = tokenizer.encoder if tokenizer.decoder is None else tokenizer.decoder
    modules = ([tokenizer.embed_patch, tokenizer.encoder, tokenizer.to_latent] if encodes
               else [tokenizer.from_latent, decoder, tokenizer.to_patch])
    layout = tokenizer.encoder_layout if encodes else tokenizer.decoder_layout
    ring = ring_numbers(config.encoder if encodes else config.decoder, layout)
    return float(bytes_of(precision, weight_numbers(*modules), batch * ring))


def bytes_of(precision: str, weights: int, ring: int) -> int:
    """Of so many weights and cached numbers; in fp8 the few weights outside of layers count as if they had it too."""
    size, cached = BYTES[precision]
    return size * weights + cached * ring
