"""Which device is taken; GPUs are played by a count and a note of what was made the current one."""

import pytest
import torch

from wakedream.device import pick_device
from wakedream.errors import ConfigError


def test_what_is_not_there_is_refused() -> None:
    assert pick_device("cpu") == torch.device("cpu")
    for name in ("gpu", "meta", "cuda:x"):
        with pytest.raises(ConfigError, match=f"unknown device '{name}': use auto, cpu, cuda or cuda:N"):
            pick_device(name)
    with pytest.raises(ConfigError, match=r"cuda:99 was asked for, but"):
        pick_device("cuda:99")


def test_without_a_gpu_that_is_what_is_said(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    for name in ("cuda", "cuda:1"):
        with pytest.raises(ConfigError, match="was asked for, but no GPU is visible"):
            pick_device(name)


@pytest.mark.parametrize(("name", "rank", "index"),
                         [("auto", None, 0), ("cuda", None, 0), ("cuda:1", None, 1), ("auto", 1, 1), ("cuda", 1, 1)])
def test_a_gpu_has_a_number_and_becomes_the_current_one(monkeypatch, name, rank, index) -> None:
    """torch.cuda.set_device refuses a device without a number."""
    current = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    assert pick_device(name, rank) == torch.device("cuda", index) and current == [index]
    with pytest.raises(ConfigError, match="cuda:2 was asked for, but GPUs are counted from 0 and 2 are visible"):
        pick_device(name, 2)
