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
    index, count = local_rank if local_rank is not None else int(known[1] or 0), torch.cuda.device_count()
    if index >= count:
        raise ConfigError(f"device {name} was asked for, which is number {index} from 0; CUDA devices here: {count}. "
                          "Use cpu, or a smaller number of processes")
    torch.cuda.set_device(index)
    return torch.device("cuda", index)
