"""Which attention ran: the names of the kernels that a profiler saw."""

import os
import re
from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile

from wakedream.bench.timing import wait

NAMES = re.compile("attn|sdpa|flash|flex|attention|fmha", re.IGNORECASE)
SHOWN = 6
os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # else some versions of the profiler chat on the console


def attention_kernels(work: Callable[[], object], device: torch.device) -> list[str]:
    """The longest-running kernels of one call whose names speak of attention.

    On the CPU the operators: SDPA's, or `bmm`, which only attention's explicit products use (the products with
    weights are `mm`).
    """
    wait(device)
    if device.type == "cuda":
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
            work()
            wait(device)
        return _on_gpu(profiler)
    with torch.autograd.profiler.profile(use_kineto=False) as operators:
        work()
    names = {event.key for event in operators.key_averages()}
    fused = sorted(name for name in names if "scaled_dot_product" in name and "backward" not in name)
    found = [f"SDPA ({max(fused, key=len)})"] if fused else []
    return found + (["explicit products (aten::bmm)"] if "aten::bmm" in names else [])


def _on_gpu(profiler: profile) -> list[str]:
    times: dict[str, float] = {}
    for event in profiler.key_averages():
        if event.device_type == torch.autograd.DeviceType.CUDA and NAMES.search(event.key):
            name = short_name(event.key)
            times[name] = times.get(name, 0.0) + event.self_device_time_total
    return sorted(times, key=times.__getitem__, reverse=True)[:SHOWN] or ["no kernel named after attention"]


def short_name(kernel: str) -> str:
    """`void ns::flash_fwd_kernel<...>(...)` -> `ns::flash_fwd_kernel`"""
    return re.split(r"[<(]", kernel.removeprefix("void "))[0].strip()[:90]
