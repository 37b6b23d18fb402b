"""Two processes train one model: as one process with twice the batch, equal on both, resumable."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from wakedream.errors import ConfigError
from wakedream.training import distributed
from wakedream.training.config import TrainConfig
from wakedream.training.distributed import Place, autocast, choose_device, join, wants_compile

SCRIPT = """
import sys, torch
sys.path.insert(0, sys.argv[1])
import conftest
from pathlib import Path
from wakedream.training.distributed import join
from safetensors.torch import save_file

class Half(conftest.Batches):
    def __init__(self, rank, world):
        super().__init__()
        self.rank, self.world = rank, world
    def __next__(self):
        return super().__next__().chunk(self.world)[self.rank]

out = Path(sys.argv[2])
with join("cpu") as place:
    conftest.Batches = lambda: Half(place.rank, place.world_size)
    for name, *stops in (("whole", 4), ("parts", 2, 4)):
        for steps in stops:
            state = conftest.run(out / name, conftest.Still, place=place, steps=steps, decay_fraction=0.0)
        save_file(state.objective.model.state_dict(), out / f"{name}{place.rank}.safetensors")
"""


def start(out: Path, world: int) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    rendezvous = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(world),
                  "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, "-c", SCRIPT, str(Path(__file__).parent), str(out)]
    out.mkdir()
    processes = [subprocess.Popen(command, env=os.environ | rendezvous | {"RANK": str(rank)},
                                  stderr=subprocess.PIPE, text=True) for rank in range(world)]
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * world, "\n".join(errors)


def test_two_ranks_are_one_with_twice_the_batch_and_resume(tmp_path, kit) -> None:
    one = kit.run(tmp_path / "one", kit.Still, steps=4, decay_fraction=0.0).objective.model.state_dict()
    start(tmp_path / "two", 2)
    two, other = (load_file(tmp_path / "two" / f"whole{rank}.safetensors") for rank in (0, 1))
    parts = load_file(tmp_path / "two" / "parts1.safetensors")
    for name in one:
        assert torch.equal(two[name], other[name]), name
        assert torch.equal(two[name], parts[name]), name
        assert torch.allclose(one[name].double(), two[name].double(), atol=1e-6), name
    lines = [[json.loads(line) for line in (tmp_path / run / "metrics.jsonl").read_text().splitlines()]
             for run in ("one", "two/whole")]
    for single, double in zip(*lines, strict=True):
        assert single["loss"] == pytest.approx(double["loss"], rel=1e-5)
        assert single["frames"] * 2 == double["frames"]  # each rank says that it has 8 a batch


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
    assert choose_device("cpu") == torch.device("cpu")
    with pytest.raises(ConfigError, match="unknown device 'gpu'"):
        choose_device("gpu")
    with pytest.raises(ConfigError, match="CUDA devices"):
        choose_device("cuda:99")
    with join("cpu") as place:
        assert place == Place(torch.device("cpu"))
        assert place.gather({"a": torch.ones(1)}, {"b": 1}) == [({"a": torch.ones(1)}, {"b": 1})]
