"""The tokenizer's training step, with each optimizer and with LPIPS; beside the plain implementation if asked for."""

import gc
from collections.abc import Iterator
from dataclasses import replace
from types import ModuleType
from typing import Any, Literal

import torch

from wakedream.bench.config import BenchConfig
from wakedream.bench.flops import lpips_flops, tokenizer_flops
from wakedream.bench.kernels import attention_kernels
from wakedream.bench.machine import Machine, precision_on
from wakedream.bench.plain import plain_implementation
from wakedream.bench.reference import geometry
from wakedream.bench.result import Result
from wakedream.bench.timing import Peak, Spread, Work, repeat, warm_up
from wakedream.bench.training_step import clips, training_step
from wakedream.errors import WeightsError
from wakedream.perceptual.cache import read
from wakedream.perceptual.trunks import trunk
from wakedream.stages.config import TokenizerRun
from wakedream.tokenizer.tokenizer import Tokenizer
from wakedream.training.distributed import Place, wants_compile
from wakedream.training.stepper import Stepper

NAME = "tokenizer-train"
LPIPS_WEIGHT, LPIPS_FRACTION = 0.2, 0.5  # where the geometry says none


def tokenizer_train(config: BenchConfig, machine: Machine) -> Iterator[Result]:
    """For every batch size: MSE alone with each optimizer, then MSE and LPIPS with the first of them."""
    plain = plain_implementation() if config.baseline else None
    run = geometry(config.preset, config.length)
    assert config.precision != "fp8", config
    run = replace(run, train=replace(run.train, precision=config.precision, recompute=config.recompute,
                                     compile=config.compile or run.train.compile))
    missing = _lpips_missing(run.objective.lpips_net) if config.lpips else None
    for batch_size in config.batch_sizes or _batch_sizes(config, run, machine):
        for optimizer in config.optimizers:
            beside = plain if optimizer == config.optimizers[0] else None
            yield from _measure(_variant(run, batch_size, optimizer), config, machine, beside)
        if config.lpips and not missing:
            yield from _measure(_variant(run, batch_size, config.optimizers[0], lpips=True), config, machine)
    if missing:
        print(f"\nno row with LPIPS: {missing}")


def _batch_sizes(config: BenchConfig, run: TokenizerRun, machine: Machine) -> tuple[int, ...]:
    if config.preset != "reference":
        return (run.loader.batch_size,)
    return (8, 32, 128) if machine.device.type == "cuda" else (2,)


def _lpips_missing(net: str) -> str | None:
    try:
        read(net)
    except WeightsError as error:
        return str(error)
    return None


def _variant(run: TokenizerRun, batch_size: int, optimizer: Literal["adamw", "muon"],
             lpips: bool = False) -> TokenizerRun:
    objective = replace(run.objective, lpips_weight=0.0)
    if lpips:
        weighed = replace(objective, lpips_weight=LPIPS_WEIGHT, lpips_fraction=LPIPS_FRACTION)
        objective = run.objective if run.objective.lpips_weight > 0 else weighed
    return replace(run, objective=objective, optim=replace(run.optim, name=optimizer),
                   loader=replace(run.loader, batch_size=batch_size))


def _measure(run: TokenizerRun, config: BenchConfig, machine: Machine,
             plain: ModuleType | None = None) -> list[Result]:
    """Ours, and the plain implementation in turns with it. What does not fit into memory says so."""
    settings = {"geometry": config.preset, "batch": run.loader.batch_size, "length": run.loader.length,
                "optimizer": run.optim.name, "losses": "MSE + LPIPS" if run.objective.lpips_weight else "MSE"}
    device = machine.device
    _forget(device)
    try:
        return _rows(run, config, machine, plain, settings)
    except torch.OutOfMemoryError as error:
        note = f"out of memory: {str(error).splitlines()[0]}"
    _forget(device)
    return [Result(NAME, settings, "step", None, notes=(note,))]


def _rows(run: TokenizerRun, config: BenchConfig, machine: Machine, plain: ModuleType | None,
          settings: dict[str, Any]) -> list[Result]:
    device, frames = machine.device, run.loader.batch_size * run.loader.length
    precision = precision_on(device, run.train.precision)
    peak = Peak(device)
    step, tokenizer = training_step(run, Place(device))
    started, calls = warm_up(step, device, config.warmup)
    memory = peak.gib()
    works: list[Work] = [step]
    if plain is not None:
        plain_row, other = _plain(plain, run, config, device)
        works.append(other)
    times = repeat(works, device, config.seconds, config.repeats)
    seconds = Spread.of(times[0])
    result = Result(
        NAME, {**settings, "implementation": _how(step, run), "precision": precision}, "step", seconds, frames,
        step_flops(tokenizer, run), precision=precision, memory_gib=memory,
        compile_seconds=max(0.0, started - calls * seconds.median), attention=attention_kernels(step, device))
    if plain is None:
        return [result]
    ratios = Spread.of([b / a for a, b in zip(*times, strict=True)])
    slow = replace(plain_row, settings=settings | plain_row.settings, seconds=Spread.of(times[1]), frames=frames,
                   flops=result.flops, attention=attention_kernels(other, device))
    return [replace(result, faster=ratios), slow]


def _plain(plain: ModuleType, run: TokenizerRun, config: BenchConfig,
           device: torch.device) -> tuple[Result, Work]:
    """The plain step, warmed up, and its row without times. On CPUs it runs in float32."""
    mixed = device.type == "cuda" and run.train.precision == "bf16"
    peak = Peak(device)
    step = plain.train_step(run.model, run.objective, clips(run, device), device, mixed, config.baseline_compile)
    warm_up(step, device, config.warmup)
    how = "compiled" if config.baseline_compile else "eager"
    settings = {"optimizer": "adamw", "implementation": f"plain, {how}", "precision": "bf16" if mixed else "float32"}
    memory = peak.gib() if device.type == "cuda" else None  # of a process with both in it
    return Result(NAME, settings, "step", None, precision=settings["precision"], memory_gib=memory), step


def _how(step: Stepper, run: TokenizerRun) -> str:
    compiled = "compiled" if wants_compile(run.train, step.state.place.device) else "eager"
    how = f"{compiled} graph" if step.records else compiled
    return f"{how}, recomputed" if run.train.recompute else how


def step_flops(tokenizer: Tokenizer, run: TokenizerRun) -> float:
    """Of one optimizer step, as flops.py counts them."""
    batch, length, objective = run.loader.batch_size, run.loader.length, run.objective
    total = batch * tokenizer_flops(tokenizer, length).training
    if objective.lpips_weight:
        pictures = max(1, round(objective.lpips_fraction * batch * length))
        total += pictures * lpips_flops(trunk(objective.lpips_net), *run.model.frame_size)
    return total


def _forget(device: torch.device) -> None:
    """What the last row compiled and held."""
    torch.compiler.reset()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
