"""Device, precision, and when to compile. Several processes: tests/distributed."""

import pytest
import torch

from wakedream.errors import ConfigError
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


@pytest.mark.parametrize(("left", "said"), [
    ({"WORLD_SIZE": "4"}, "WORLD_SIZE is 4 .* RANK, MASTER_ADDR, MASTER_PORT are not .*unset WORLD_SIZE"),
    ({"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "localhost"}, "MASTER_PORT is not "),
    ({"WORLD_SIZE": "two"}, "WORLD_SIZE is 'two'.*expected a whole number"),
    ({"WORLD_SIZE": "2", "RANK": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}, "RANK is 2.*0 to 1"),
])
def test_what_was_left_over_of_several_processes_is_named(monkeypatch, left, said) -> None:
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in left.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=said), join("cpu"):
        raise AssertionError("no process joins")
