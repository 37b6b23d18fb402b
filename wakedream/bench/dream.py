"""Dreams: milliseconds to the next frame of all of them, in latents alone and in pictures, and to a first frame."""

import copy
import functools
import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch

from wakedream.bench.config import DYNAMICS, BenchConfig
from wakedream.bench.flops import frame_flops, ring_numbers, tokenizer_flops, weight_numbers
from wakedream.bench.kernels import attention_kernels
from wakedream.bench.machine import Machine
from wakedream.bench.reference import geometry
from wakedream.bench.result import Result
from wakedream.bench.synthetic import GAMEPAD, random_action
from wakedream.bench.timing import Peak, Spread, repeat, wait, warm_up
from wakedream.bench.tokenizer_stream import Mode, bytes_of, least_bytes, modes
from wakedream.dynamics.dynamics import Dynamics
from wakedream.presets.dynamics import dynamics_preset
from wakedream.tokenizer.tokenizer import Tokenizer
from wakedream.world.dream import of_pictures
from wakedream.world.model import World

NAME = "dream"
USUAL = {"cuda": ("crafter", "coinrun", "paper"), "cpu": ("demo",)}
DREAMS = {"cuda": (1, 64, 1024), "cpu": (1, 8)}
LATENTS, PICTURES = "latents", "pictures"


def dream(config: BenchConfig, machine: Machine) -> Iterator[Result]:
    """For each preset, number of dreams side by side and way to run: a row in latents alone, one with pictures."""
    device = machine.device
    if config.preset not in ("reference", *DYNAMICS):
        print(f"\nno {NAME}: the preset '{config.preset}' has no dynamics model")
        return
    for name in USUAL[device.type] if config.preset == "reference" else (config.preset,):
        world = drawn_world(name)
        usual = (1,) if name == "paper" else DREAMS[device.type]
        for batch in config.batch_sizes or usual:
            for mode in modes(config, device):
                if mode.graph or device.type == "cpu":  # kernel by kernel a GPU waits for the interpreter
                    for gives in (LATENTS, PICTURES):
                        _forget(device)
                        fresh = copy.deepcopy(world).to(device)  # nothing has been made for it yet
                        yield _measure(fresh, name, batch, mode, gives, config, machine)


def _forget(device: torch.device) -> None:
    """What the last row compiled and held."""
    torch.compiler.reset()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def drawn_world(preset: str) -> World:
    """Nobody has trained it; what larger steps need is there."""
    torch.manual_seed(0)
    dynamics = Dynamics(dynamics_preset(preset).model, GAMEPAD).eval()
    dynamics.shortcut.fill_(True)
    return World(Tokenizer(geometry(preset).model).eval(), dynamics)


def _measure(world: World, name: str, batch: int, mode: Mode, gives: str, config: BenchConfig,
             machine: Machine) -> Result:
    """What does not fit into memory says so."""
    device = machine.device
    precision = config.precision if device.type == "cuda" else "float32"  # as dreams have it by default
    settings = {"preset": name, "dreams": batch, "K": config.sampling_steps, "gives": gives,
                "implementation": mode.name, "precision": precision}
    make = functools.partial(world.dynamics.dream if gives == LATENTS else world.dream, batch_size=batch,
                             sampling_steps=config.sampling_steps, precision=precision, graph=mode.graph,
                             compile=mode.compile)
    try:
        return _row(make, world, settings, config, machine)
    except torch.OutOfMemoryError as error:
        return Result(NAME, settings, "frame", None, notes=(f"out of memory: {str(error).splitlines()[0]}",))


def _row(make: Callable[..., Any], world: World, settings: dict[str, Any], config: BenchConfig,
         machine: Machine) -> Result:
    device, batch, peak = machine.device, settings["dreams"], Peak(machine.device)
    first, one = first_frame(make, batch, device)
    work = functools.partial(one.step, random_action((batch,)))
    started, calls = warm_up(work, device, config.warmup)
    (times,) = repeat([work], device, config.seconds, config.repeats)
    seconds, memory = Spread.of(times), peak.gib()
    attention = attention_kernels(work, device)
    second, _ = first_frame(make, batch, device)  # while the first one lives
    result = Result(
        NAME, settings, "frame", seconds, batch, batch * frame_flops(world.dynamics, config.sampling_steps),
        dream_bytes(world.dynamics, batch, getattr(one, "dreamer", one).engine.passes, settings["precision"]),
        settings["precision"], memory, max(0.0, first + started - (calls + 1) * seconds.median), attention,
        notes=(f"first frame after {1e3 * first:,.0f} ms, that of a second dream after {1e3 * second:,.1f} ms",),
        more={"first_frame_ms": 1e3 * first, "second_dream_ms": 1e3 * second})
    return _with_pictures(result, world.tokenizer) if settings["gives"] == PICTURES else result


def first_frame(make: Callable[..., Any], batch: int, device: torch.device) -> tuple[float, Any]:
    """Seconds until a new dream has made its first frame; and the dream."""
    wait(device)
    began = time.perf_counter()
    made = make()
    made.step(random_action((batch,)))
    wait(device)
    return time.perf_counter() - began, made


def dream_bytes(dynamics: Dynamics, batch: int, passes: int, precision: str) -> float:
    """What must be read for a frame: in each pass the weights once, and every dream's cached keys and values."""
    weights = weight_numbers(dynamics.embed_latent, dynamics.transformer, dynamics.to_latent)
    ring = ring_numbers(dynamics.config.transformer, dynamics.layout)
    return float(passes * bytes_of(precision, weights, batch * ring))


def _with_pictures(result: Result, tokenizer: Tokenizer) -> Result:
    batch, shown = int(result.frames), of_pictures(result.precision)
    decode = tokenizer_flops(tokenizer, 1, past=tokenizer.config.window).decode
    assert result.flops is not None and result.bytes is not None and shown is not None
    return replace(result, flops=result.flops + batch * decode,
                   bytes=result.bytes + least_bytes(tokenizer, batch, encodes=False, precision=shown))
