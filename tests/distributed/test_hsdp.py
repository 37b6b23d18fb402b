"""Eight processes, four on each of two hosts: a model split within a host, a copy on each; steps as of one process. And
two processes, with a torchrun for each host, on GPUs too."""

import os
import subprocess
import sys
from pathlib import Path

import hsdp_ranks
import pytest
import ranks
import torch
from safetensors.torch import load_file
from stages.conftest import write_data
from test_peers import CPU, GPU, OPTIONS, TWO_GPUS
from test_ranks import ALONE, free_port, of, same, saved, start

from wakedream.errors import ConfigError
from wakedream.runs import log_lines
from wakedream.training import optim
from wakedream.training.distributed import Place, copies_of


@pytest.fixture(autouse=True)
def in_float32(monkeypatch) -> None:
    """As the processes of hsdp_ranks.py."""
    monkeypatch.setattr(optim, "lowers", lambda *_: False)


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("hsdp")
    codes, said = start(out, "cpu", script=hsdp_ranks.__file__, count=8, on_host=4)
    assert codes == [0] * 8, "\n".join(said)
    return out


@pytest.mark.slow
def test_gradients_and_steps_are_those_of_one_process(out, tmp_path) -> None:
    same(of(out, "gradients", 8), ranks.gradients(ALONE), 1e-6)
    same(of(out, "steps", 8), ranks.everything(ranks.train(tmp_path / "one", ALONE)), 1e-5)


@pytest.mark.slow
def test_it_goes_on_bit_for_bit(out) -> None:
    same(of(out, "parts", 8), of(out, "whole", 8))


@pytest.mark.slow
def test_the_first_host_s_processes_write_a_quarter_each(out) -> None:
    folder = out / "steps" / "checkpoints" / "step_00000004"
    files = sorted(folder.glob("state-*"))
    assert [file.name for file in files] == [f"state-0000{part}-of-00004.safetensors" for part in range(1, 5)]
    name = "objective.model.body.layers.0.up.weight"
    assert [len(load_file(file)[name]) for file in files] == [3, 3, 3, 0]
    assert not list(folder.parent.glob(".*"))
    tensors = saved(out / "steps")
    for key, tensor in of(out, "steps", 8).items():
        kind, rest = key.split(".", 1)
        entries = {"model": f"objective.model.{rest}", "ema": key, "optimizer": f"optimizers.{rest}"}
        assert torch.equal(tensors[entries[kind]], tensor), key


@pytest.mark.slow
def test_one_process_goes_on_from_it(out, tmp_path) -> None:
    (out / "steps").rename(tmp_path / "steps")
    ours = ranks.everything(ranks.train(tmp_path / "steps", ALONE, steps=6))
    same(ours, ranks.everything(ranks.train(tmp_path / "one", ALONE, steps=6)), 1e-5)


def test_hosts_that_differ_are_refused() -> None:
    config = ranks.config(parallel="hsdp")
    assert copies_of(config, Place(torch.device("cpu"), 0, 8, 4)) == 2
    with pytest.raises(ConfigError, match=r"equally many on each, ranks in a row, got .* at RANK 3 of 6"):
        copies_of(config, Place(torch.device("cpu"), 3, 6, 0))


def torchrun(hosts: int, on_host: int, *command: str) -> None:
    """One on each host. The hosts are this one: each has GPUs of its own, and NCCL takes the others for other machines,
    with sockets alone to reach them."""
    port = free_port()
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "0,1").split(",")
    alike = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo", "NCCL_NET": "Socket"}
    agents = []
    for host in range(hosts):
        own = {"CUDA_VISIBLE_DEVICES": ",".join(gpus[host * on_host:(host + 1) * on_host]),
               "NCCL_HOSTID": f"host-{host}"}
        agents.append(subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", "--nnodes", str(hosts), "--nproc-per-node", str(on_host),
             "--rdzv-backend", "c10d", "--rdzv-id", "hsdp", "--rdzv-endpoint", f"127.0.0.1:{port}", "--local-addr",
             "127.0.0.1", *command], env=os.environ | alike | own, stderr=subprocess.PIPE, text=True))
    try:
        said = [agent.communicate(timeout=120)[1] for agent in agents]
    finally:
        for agent in agents:
            agent.terminate()  # its processes with it
    assert [agent.returncode for agent in agents] == [0] * hosts, "\n".join(said)


@pytest.mark.parametrize(("device", "hosts"), [
    pytest.param("cpu", 2, marks=pytest.mark.slow),
    pytest.param("cuda", 2, marks=TWO_GPUS), pytest.param("cuda", 1, marks=TWO_GPUS)])
def test_two_processes_copies_on_two_hosts_or_halves_on_one(tmp_path, device, hosts) -> None:
    torchrun(hosts, 2 // hosts, hsdp_ranks.__file__, str(tmp_path), device)
    same(of(tmp_path, "gradients"), ranks.gradients(ALONE), 1e-6)
    same(of(tmp_path, "parts"), of(tmp_path, "whole"))
    same(of(tmp_path, "steps"), ranks.everything(ranks.train(tmp_path / "one", ALONE)), 1e-5)
    written = (tmp_path / "steps" / "checkpoints" / "step_00000004").glob("state*.safetensors")
    assert len(list(written)) == 2 // hosts  # by one host alone
    ours = ranks.everything(ranks.train(tmp_path / "steps", ALONE, steps=6))
    same(ours, ranks.everything(ranks.train(tmp_path / "one", ALONE, steps=6)), 1e-5)


@pytest.mark.parametrize("options", [pytest.param(CPU, marks=pytest.mark.slow),
                                     pytest.param(f"{GPU} --train.compile on", marks=TWO_GPUS)])
def test_a_tokenizer_trains_over_hosts_in_copies_as_it_does_whole(tmp_path, options) -> None:
    """By the command; in bf16 on GPUs. What copies have saved goes on in halves."""
    write_data(tmp_path / "data")

    def train(out: str, parallel: str, hosts: int, steps: int) -> list[dict]:
        torchrun(hosts, 2 // hosts, "-m", "wakedream", "train", "tokenizer", "debug", "--data", str(tmp_path / "data"),
                 "--out", str(tmp_path / out), *OPTIONS.split(), *options.split(), "--train.steps", str(steps),
                 "--train.parallel", parallel)
        return [line for line in log_lines(tmp_path / out / "metrics.jsonl") if line["kind"] == "train"]

    copies, whole = train("copies", "hsdp", 2, 4), train("whole", "ddp", 2, 4)
    for ours, theirs in zip(copies, whole, strict=True):
        for name in ("mse", "grad_norm", "step"):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-2), name
    assert [line["step"] for line in train("copies", "hsdp", 1, 6)] == [1, 2, 3, 4, 5, 6]
