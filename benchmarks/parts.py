"""Where the time of a dreamed frame goes: milliseconds of each part beside the least that this machine could take.

    python benchmarks/parts.py paper --commit "with next" --compile --out parts.json
    python benchmarks/parts.py paper --commit after --compile --precision fp8

A profiler's kernels (on a CPU: operators) of --frames frames, sorted by their names; what is neither product nor
attention is the rest: norms, rotary embedding, residuals, noise, the ring. Limits: products read the weights and
compute, whichever takes longer at the measured rates; attention reads the rings. Random weights; the window is full.
"""

import argparse
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from wakedream.bench.dream import drawn_world
from wakedream.bench.flops import frame_flops, ring_numbers, tokenizer_flops, weight_numbers
from wakedream.bench.machine import Machine, measure_machine
from wakedream.bench.synthetic import random_action
from wakedream.bench.timing import wait, warm_up
from wakedream.bench.tokenizer_stream import bytes_of, least_bytes
from wakedream.device import pick_device
from wakedream.dynamics.engine import AFTER, WITH_NEXT, DreamEngine
from wakedream.runs import write_json
from wakedream.world.dream import of_pictures

PRODUCTS = re.compile(r"gemm|gemv|nvjet|cutlass|cublas|wgmma|aten::(?:mm|bmm|addmm|linear|_scaled_mm)$|"
                      r"triton_tem", re.I)
ATTENTION = re.compile(r"flash|fmha|sdpa|attention|_explicit|flex", re.I)


def part_of(name: str) -> str:
    return "attention" if ATTENTION.search(name) else "products" if PRODUCTS.search(name) else "the rest"


Kernels = dict[str, tuple[float, float]]  # by name: ms a frame, and how many a frame


def profiled(work: Callable[[], Any], frames: int, device: torch.device) -> tuple[float, Kernels]:
    """ms a frame by the clock, and what ran on the device, the longest first."""
    warm_up(work, device, 5)
    began = time.perf_counter()
    for _ in range(frames):
        work()
    wait(device)
    whole = 1000 * (time.perf_counter() - began) / frames
    kinds = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device.type == "cuda")
    with profile(activities=kinds, acc_events=True) as seen:
        for _ in range(frames):
            work()
        wait(device)
    found: Kernels = {}
    for event in seen.key_averages():
        on_device = device.type == "cuda" and event.device_type == torch.autograd.DeviceType.CUDA
        took = event.self_device_time_total if on_device else 0 if device.type == "cuda" else event.self_cpu_time_total
        if took:
            found[event.key] = took / 1000 / frames, event.count / frames
    return whole, dict(sorted(found.items(), key=lambda item: -item[1][0]))


def parts_of(kernels: Kernels) -> dict[str, tuple[float, float]]:
    """By part, ms a frame and kernels a frame."""
    found = dict.fromkeys(("products", "attention", "the rest"), (0.0, 0.0))
    for name, (ms, count) in kernels.items():
        before = found[part_of(name)]
        found[part_of(name)] = before[0] + ms, before[1] + count
    return found


def limits(flops: float, weights: float, rings: float, machine: Machine, precision: str) -> dict[str, float]:
    """ms; weights, rings: bytes that must be read."""
    products = max(flops / machine.matrix[precision], weights / machine.copy)
    return {"products": 1000 * products, "attention": 1000 * rings / machine.copy, "the rest": 0.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preset")
    parser.add_argument("--dreams", type=int, default=1)
    parser.add_argument("--sampling-steps", type=int, default=4)
    parser.add_argument("--commit", default=WITH_NEXT, choices=(AFTER, WITH_NEXT))
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--precision", choices=("float32", "bf16", "fp8"), help="default: bf16, on a CPU float32")
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--kernels", type=int, default=0, help="so many, those that take longest, are shown by name")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    device = pick_device(options.device)
    machine, world = measure_machine(device), drawn_world(options.preset).to(device)
    precision = options.precision or ("bf16" if device.type == "cuda" else "float32")
    if precision not in machine.matrix:
        parser.error(f"{machine.name} has no {precision}, only {' and '.join(machine.matrix)}")
    engine = DreamEngine(world.dynamics, options.dreams, sampling_steps=options.sampling_steps, commit=options.commit,
                         precision=precision, compile=options.compile)
    shown = of_pictures(precision) or precision
    action, config = random_action((options.dreams,)), world.dynamics.config
    engine.reset(seeds=torch.arange(options.dreams))
    began = time.perf_counter()
    for _ in range(config.window + 1):
        latents = engine.step(action).latents
    first = time.perf_counter() - began
    stream = world.tokenizer.stream(options.dreams, precision=shown, compile=options.compile)
    dynamics, decoder = world.dynamics, world.tokenizer
    weights = weight_numbers(dynamics.embed_latent, dynamics.transformer, dynamics.to_latent)
    ring = ring_numbers(config.transformer, dynamics.layout)
    works = {
        "dream": (lambda: engine.step(action), options.dreams * frame_flops(dynamics, options.sampling_steps),
                  float(engine.passes * bytes_of(precision, weights, 0)),
                  float(engine.passes * bytes_of(precision, 0, options.dreams * ring))),
        "decode": (lambda: stream.picture(latents),
                   options.dreams * tokenizer_flops(decoder, 1, past=decoder.config.window).decode,
                   least_bytes(decoder, options.dreams, encodes=False, precision=shown), 0.0),
    }
    rows: list[dict[str, Any]] = []
    for name, (work, flops, read, rings) in works.items():
        whole, kernels = profiled(work, options.frames, device)
        found = parts_of(kernels)
        least = limits(flops, read, rings, machine, precision if name == "dream" else shown)
        print(f"\n{name}: {whole:.2f} ms a frame by the clock, {1000 / whole:.1f} frames/s; on the device:")
        print("| part | kernels | ms | least, ms | of the limit |\n|---|---|---|---|---|")
        for part, (ms, count) in found.items():
            share = f"{100 * least[part] / ms:.0f} %" if ms and least[part] else ""
            print(f"| {part} | {count:.0f} | {ms:.2f} | {least[part]:.2f} | {share} |")
            rows.append({"of": name, "part": part, "kernels": round(count), "ms": ms, "least_ms": least[part]})
        idle = whole - sum(ms for ms, _ in found.values())
        print(f"| nothing runs | | {max(0.0, idle):.2f} | 0.00 | |")
        rows.append({"of": name, "part": "whole", "ms": whole})
        for kernel, (ms, count) in list(kernels.items())[:options.kernels]:
            print(f"  {ms:6.3f} ms {count:5.0f} x {1000 * ms / count:6.2f} us  {kernel[:150]}")
    if options.out:
        about = {"device": machine.name, "date": machine.date, "torch": machine.torch, "matrix": machine.matrix,
                 "copy": machine.copy}
        write_json(options.out, {"settings": {name: str(value) for name, value in vars(options).items()},
                                 "machine": about, "seconds_until_the_window_was_full": first, "rows": rows})


if __name__ == "__main__":
    main()
