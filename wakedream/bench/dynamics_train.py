"""The dynamics model's training step: flow alone, and with bootstrap rows."""

import gc
from collections.abc import Iterator
from dataclasses import replace

import torch

from wakedream.bench.config import DYNAMICS, BenchConfig
from wakedream.bench.flops import dynamics_flops
from wakedream.bench.kernels import attention_kernels
from wakedream.bench.machine import Machine, precision_on
from wakedream.bench.result import Result
from wakedream.bench.timing import Peak, Spread, repeat, warm_up
from wakedream.bench.training_step import dynamics_step
from wakedream.dynamics.dynamics import Dynamics
from wakedream.dynamics.rows import Mix
from wakedream.presets.dynamics import dynamics_preset
from wakedream.stages.config import DynamicsRun
from wakedream.training.distributed import Place, wants_compile

NAME = "dynamics-train"
USUAL = {"cuda": ("crafter", "coinrun"), "cpu": ("demo",)}


def dynamics_train(config: BenchConfig, machine: Machine) -> Iterator[Result]:
    """For each preset and batch size: a row for steps without bootstrap rows, one for steps with them."""
    if config.preset not in ("reference", *DYNAMICS):
        print(f"\nno {NAME}: the preset '{config.preset}' has no dynamics model")
        return
    assert config.precision != "fp8", config
    for name in USUAL[machine.device.type] if config.preset == "reference" else (config.preset,):
        run = dynamics_preset(name)
        run = replace(run, train=replace(run.train, precision=config.precision, compile=config.compile or
                                         run.train.compile, recompute=config.recompute or run.train.recompute))
        for batch_size in config.batch_sizes or (run.loader.batch_size,):
            loader = replace(run.loader, batch_size=batch_size, length=config.length or run.loader.length)
            yield from _measure(name, replace(run, loader=loader), config, machine)


def _measure(name: str, run: DynamicsRun, config: BenchConfig, machine: Machine) -> Iterator[Result]:
    """What does not fit into memory says so."""
    device, loader, precision = machine.device, run.loader, precision_on(machine.device, run.train.precision)
    settings = {"preset": name, "batch": loader.batch_size, "length": loader.length}
    torch.compiler.reset()
    gc.collect()
    try:
        peak = Peak(device)
        step, dynamics = dynamics_step(run, Place(device))
        how = "compiled" if wants_compile(run.train, device) else "eager"
        settings |= {"implementation": f"{how} graph" if step.records else how, "precision": precision}
        for losses, first in (("flow", 0), ("flow + bootstrap", run.objective.bootstrap_from)):
            step.state.step = first
            started, calls = warm_up(step, device, config.warmup)
            (times,) = repeat([step], device, config.seconds, config.repeats)
            seconds = Spread.of(times)
            yield Result(NAME, {**settings, "losses": losses}, "step", seconds, loader.batch_size * loader.length,
                         step_flops(dynamics, run, bootstraps=losses != "flow"), precision=precision,
                         memory_gib=peak.gib(), compile_seconds=max(0.0, started - calls * seconds.median),
                         attention=attention_kernels(step, device))
    except torch.OutOfMemoryError as error:
        yield Result(NAME, settings, "step", None, notes=(f"out of memory: {str(error).splitlines()[0]}",))


def step_flops(dynamics: Dynamics, run: DynamicsRun, bootstraps: bool) -> float:
    """Of one optimizer step; the two looks of the teacher, forward alone, are at bootstrap rows of an average kind."""
    mix = Mix(run.loader)
    counts = mix.counts(dict.fromkeys((kind.name for kind in mix.kinds), 0))
    found = [(counts[kind.name] * kind.windows, dynamics_flops(dynamics, kind.length)) for kind in mix.kinds]
    training = sum(windows * counted.training for windows, counted in found)
    looks = sum(windows * counted.look for windows, counted in found)
    rows = max(1, int(run.objective.bootstrap_fraction * run.loader.batch_size))
    return training + 2 * looks * rows / run.loader.batch_size * bootstraps
