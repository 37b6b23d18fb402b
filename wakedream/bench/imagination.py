"""Imagination: dreamed frames per second of an agent's rollouts, policy and heads included, and of whole updates,
beside a dream of as many frames in which nobody acts: from nothing, and after the same contexts, which are observed
first."""

import gc
from collections.abc import Iterator
from functools import partial

import torch

from wakedream.agent.imagination import Imagining
from wakedream.bench.config import DYNAMICS, BenchConfig
from wakedream.bench.machine import Machine
from wakedream.bench.result import Result
from wakedream.bench.synthetic import random_action
from wakedream.bench.timing import Peak, Spread, repeat, warm_up
from wakedream.bench.training_step import imagination_step
from wakedream.dynamics.clip import LatentClip
from wakedream.dynamics.engine import DreamEngine
from wakedream.presets.agent import IMAGINATIONS, imagination_preset
from wakedream.training.distributed import Place

NAME = "imagination"
USUAL = {"cuda": ("crafter", "coinrun"), "cpu": ("demo",)}
ROLLOUTS = {"cuda": (64, 1024), "cpu": (8,)}
RECOMMENDED = "crafter"  # agent of dynamics models that have none of their own name


def imagination(config: BenchConfig, machine: Machine) -> Iterator[Result]:
    """For each dynamics preset and number of rollouts: dreams alone, rollouts alone, and updates."""
    device = machine.device
    if config.preset not in ("reference", *DYNAMICS):
        print(f"\nno {NAME}: the preset '{config.preset}' has no dynamics model")
        return
    for name in USUAL[device.type] if config.preset == "reference" else (config.preset,):
        for batch in config.batch_sizes or ROLLOUTS[device.type]:
            yield from _measure(name, batch, config, machine)


def _measure(name: str, batch: int, config: BenchConfig, machine: Machine) -> Iterator[Result]:
    """What does not fit into memory says so."""
    device, preset = machine.device, name if name in IMAGINATIONS else RECOMMENDED
    run = imagination_preset(preset)
    horizon, sampling_steps = run.objective.horizon, config.sampling_steps
    precision = "bf16" if device.type == "cuda" else "float32"  # as dreams have it by default
    settings = {"preset": name, "rollouts": batch, "horizon": horizon, "K": sampling_steps, "precision": precision}
    gc.collect()
    try:
        step, agent, contexts = imagination_step(name, preset, batch, sampling_steps, Place(device))
        imagining = Imagining(agent, batch, sampling_steps=sampling_steps)
        engine, action = DreamEngine(agent.dynamics, batch, sampling_steps=sampling_steps), random_action((batch,))

        def dream(after: LatentClip | None = None) -> None:
            engine.reset()
            if after is not None:
                engine.observe(after.latents, after.trajectory)
            for _ in range(horizon):
                engine.step(action)

        def rollout() -> None:
            imagining.rollout(contexts, 0, horizon)

        for does, work in (("dream", dream), ("dream after contexts", partial(dream, contexts.clip)),
                           ("rollout", rollout), ("update", step)):
            peak = Peak(device)
            started, calls = warm_up(work, device, config.warmup or 4)  # each is many frames
            (times,) = repeat([work], device, config.seconds, config.repeats)
            seconds = Spread.of(times)
            yield Result(NAME, {**settings, "does": does}, "rollout", seconds, batch * horizon, precision=precision,
                         memory_gib=peak.gib(), compile_seconds=max(0.0, started - calls * seconds.median))
    except torch.OutOfMemoryError as error:
        yield Result(NAME, settings, "rollout", None, notes=(f"out of memory: {str(error).splitlines()[0]}",))
