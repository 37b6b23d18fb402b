"""Which device to work on."""

import re

import torch

from wakedream.errors import ConfigError


def pick_device(name: str, local_rank: int | None = None) -> torch.device:
    """auto: the GPU where there is one; with `local_rank`, the GPU of that number. It becomes the current one, since
    that is where kernels start. ConfigError when the one asked for is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    known = re.fullmatch(r"cpu|cuda(?::(\d+))?", name)
    if not known:
        raise ConfigError(f"unknown device '{name}': use auto, cpu, cuda or cuda:N")
    if name == "cpu":
        return torch.device("cpu")
    device = torch.device("cuda", local_rank if local_rank is not None else int(known[1] or 0))
    check_visible(device)
    torch.cuda.set_device(device.index)
    return device


def check_visible(device: torch.device) -> None:
    """ConfigError for a GPU that PyTorch does not see."""
    if device.type != "cuda":
        return
    count = torch.cuda.device_count()
    if count == 0:
        raise ConfigError(f"{device} was asked for, but no GPU is visible: use cpu, or look at what nvidia-smi, "
                          "CUDA_VISIBLE_DEVICES and torch.cuda.is_available() say")
    if (index := device.index or 0) >= count:
        raise ConfigError(f"{device} was asked for, but GPUs are counted from 0 and {count} "
                          f"{'is' if count == 1 else 'are'} visible: give a number below {count}, use cpu, or fewer "
                          f"processes than {index + 1}")
