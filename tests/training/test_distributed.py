"""Device, precision, and when to compile. Several processes: tests/distributed."""

import pytest
import torch

from wakedream.training import distributed
from wakedream.training.config import TrainConfig
from wakedream.training.distributed import Place, autocast, join, wants_compile


def test_compile_choice(monkeypatch) -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    monkeypatch.setattr(distributed.shutil, "which", lambda name: f"/bin/{name}")
    assert wants_compile(TrainConfig(minutes=5.0), cpu)
    assert not wants_compile(TrainConfig(minutes=1.0), cpu)
    assert not wants_compile(TrainConfig(minutes=5.0, steps=20), cpu)
    assert not wants_compile(TrainConfig(steps=20), cpu)
    assert wants_compile(TrainConfig(steps=20), gpu)
    assert wants_compile(TrainConfig(steps=20, compile="on"), cpu)
    assert not wants_compile(TrainConfig(compile="off"), gpu)
    monkeypatch.setattr(distributed.shutil, "which", lambda name: None)
    with pytest.warns(UserWarning, match="no compiler"):
        assert not wants_compile(TrainConfig(compile="on"), cpu)


def test_precision_and_devices() -> None:
    assert not autocast(torch.device("cpu"), "float32").__dict__["_enabled"]
    with join("cpu") as place:
        assert place == Place(torch.device("cpu"))
        assert place.gather({"a": torch.ones(1)}, {"b": 1}) == [({"a": torch.ones(1)}, {"b": 1})]
