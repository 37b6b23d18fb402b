"""What this machine can do at most, measured in the run whose results are compared with it."""

import datetime
import functools
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from wakedream import __version__
from wakedream.bench.timing import Spread, repeat, warm_up
from wakedream.model.fp8 import E4M3, has_fp8
from wakedream.training.distributed import autocast

MATRIX = {"cuda": 8192, "cpu": 2048}  # side of the square matrices that are multiplied
COPY = {"cuda": 2**30, "cpu": 2**28}  # bytes of the tensor that is copied


@dataclass(frozen=True)
class Machine:
    """The device's name and its measured limits.

    matrix     FLOP/s of a dense product by precision; bf16 and float32 (on GPUs with PyTorch's default, no TF32), fp8
               on GPUs that have it
    copy       bytes/s of a copy within the device's memory, read plus written
    """

    device: torch.device
    name: str
    matrix: dict[str, float]
    copy: float
    torch: str
    python: str
    wakedream: str
    threads: int
    date: str


def measure_machine(device: torch.device) -> Machine:
    return Machine(
        device=device,
        name=device_name(device),
        matrix={name: _matrix_rate(device, dtype)
                for name, dtype in (("bf16", torch.bfloat16), ("float32", torch.float32), ("fp8", E4M3))
                if name != "fp8" or has_fp8(device)},
        copy=_copy_rate(device),
        torch=str(torch.__version__),
        python=platform.python_version(),
        wakedream=__version__,
        threads=torch.get_num_threads(),
        date=datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
    )


def precision_on(device: torch.device, asked: str) -> str:
    """In what products are computed, "bf16" or "float32": not every CPU has bf16."""
    with autocast(device, asked):
        return "bf16" if torch.is_autocast_enabled(device.type) else "float32"


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), None)
    return f"{model or platform.processor() or 'CPU'}, {os.cpu_count()} cores"


def _matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    side = MATRIX[device.type]
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    one, out = torch.ones((), device=device), torch.empty_like(a, dtype=torch.bfloat16 if dtype == E4M3 else dtype)
    work = (functools.partial(torch._scaled_mm, a, b.t(), one, one, out_dtype=out.dtype, use_fast_accum=True, out=out)
            if dtype == E4M3 else functools.partial(torch.mm, a, b, out=out))
    return 2 * side**3 / _median(work, device)


def _copy_rate(device: torch.device) -> float:
    source = torch.ones(COPY[device.type], dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)
    return 2 * source.numel() / _median(lambda: target.copy_(source), device)


def _median(work: Callable[[], object], device: torch.device) -> float:
    warm_up(work, device, 3 if device.type == "cuda" else 1)
    (times,) = repeat([work], device, seconds=0.5, repeats=5)
    return Spread.of(times).median
