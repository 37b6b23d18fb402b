"""One of several processes is killed: all end, one line says which, and any number of others goes on."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from stages.conftest import write_data
from test_ranks import free_port

from wakedream.errors import ConfigError, Interrupted, RunError
from wakedream.runs import log_lines
from wakedream.training import distributed, peers
from wakedream.training.checkpoint import Checkpoints
from wakedream.training.peers import Peers, is_lost

OPTIONS = ("--model.height 16 --model.width 16 --loader.batch-size 2 --train.minutes None --train.save-minutes None "
           "--train.log-every 1 --train.evaluate-every 100000")
CPU = "--train.device cpu --train.compile off --train.save-every 2"
GPU = "--train.device cuda --train.save-every 20"  # by then steps under DDP are recorded
TWO_GPUS = [pytest.mark.gpu, pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")]


def begin(out: Path, processes: int, *options: str) -> subprocess.Popen:
    port = free_port()
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}", f"--master-port={port}",
         "--log-dir", str(out / "logs"), "-m", "wakedream", "train", "tokenizer", "debug", "--data", str(out / "data"),
         "--out", str(out / "run"), *OPTIONS.split(), *options],
        env=os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}, stderr=subprocess.PIPE, text=True)


def process_of(rank: int, torchrun: subprocess.Popen) -> int:
    """The process that has this rank."""
    for line in Path(f"/proc/{torchrun.pid}/task/{torchrun.pid}/children").read_text().split():
        if f"RANK={rank}" in Path(f"/proc/{line}/environ").read_text().split("\0"):
            return int(line)
    raise AssertionError(f"torchrun has no process of rank {rank}")


@pytest.mark.parametrize(("parallel", "processes", "killed", "options"), [
    pytest.param("fsdp", 4, 2, CPU, marks=pytest.mark.slow), pytest.param("ddp", 4, 0, CPU, marks=pytest.mark.slow),
    pytest.param("fsdp", 2, 0, GPU + " --train.compile off", marks=TWO_GPUS),
    pytest.param("ddp", 2, 1, GPU + " --train.compile on", marks=TWO_GPUS)])
def test_a_killed_process_ends_all_and_is_named_and_others_go_on(tmp_path, parallel, processes, killed,
                                                                 options) -> None:
    """Of four in a ring the one opposite waits for its neighbours, who have ended; on a GPU a kernel waits for ever."""
    write_data(tmp_path / "data")
    options = (*options.split(), "--train.parallel", parallel)
    torchrun = begin(tmp_path, processes, *options, "--train.steps", "100000")
    checkpoints = Checkpoints(tmp_path / "run" / "checkpoints", 9)
    for _ in range(1200):
        if checkpoints.latest() or torchrun.poll() is not None:
            break
        time.sleep(0.2)
    os.kill(process_of(killed, torchrun), signal.SIGKILL)
    said = torchrun.communicate(timeout=60)[1]
    assert torchrun.returncode == 1
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, said
    named = f"process {killed} of {processes} ended"
    assert re.search(rf"{named} without a word at {time.strftime('%Y-%m-%d')} .*the same command goes on", errors[0])
    files = {int(path.parent.name): path.read_text() for path in (tmp_path / "logs").rglob("error.json")}
    assert files.keys() == set(range(processes)) - {killed}
    assert all(named in json.loads(text)["message"]["message"] for text in files.values())

    last = checkpoints.latest()
    step = int(last.name.removeprefix("step_"))
    others = begin(tmp_path, processes // 2, *options, "--train.steps", str(step + 2))
    said = others.communicate(timeout=120)[1]
    assert others.returncode == 0, said
    assert f"resuming at step {step} " in said
    steps = [line["step"] for line in log_lines(tmp_path / "run" / "metrics.jsonl") if line["kind"] == "train"]
    assert steps == list(range(1, step + 3))


@pytest.fixture
def two(monkeypatch):
    """Two processes' peers in one, and the store that outlives them."""
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(store.port))
    monkeypatch.setattr(peers, "PATIENCE", 0.5)
    monkeypatch.setattr(peers, "LISTENING", 0.05)
    before = signal.getsignal(signal.SIGTERM)
    made = [Peers(rank, 2) for rank in range(2)]
    yield made
    for one in made:
        one.close()
    signal.signal(signal.SIGTERM, before)


BROKEN = RuntimeError("[gloo/transport/tcp/pair.cc:553] Connection closed by peer")


def test_who_does_not_answer_is_named(two) -> None:
    two[1].close()  # as if it were gone
    error = two[0].leave(BROKEN)
    assert isinstance(error, RunError) and not error.told
    assert str(error).startswith("process 1 of 2 ended without a word at ")


def test_who_is_stuck_answers_and_says_the_same_later(two) -> None:
    first = two[0].leave(BROKEN)
    assert str(first).startswith("the connection between the processes broke at ")
    second = two[1].leave(BROKEN)
    assert (str(second), first.told, second.told) == (str(first), False, True)


def test_an_error_of_one_is_said_by_it_alone(two) -> None:
    error = two[1].leave(ConfigError("no such thing"))
    assert not error.told
    other = two[0].leave(BROKEN)
    assert str(other).startswith("process 1 of 2 ended (no such thing); the last checkpoint stays")
    assert other.told


def test_a_bug_is_told_beside_its_traceback(two) -> None:
    bug = ZeroDivisionError("division")
    assert two[1].leave(bug) is bug
    other = two[0].leave(BROKEN)
    assert "process 1 of 2 ended (division)" in str(other) and not other.told


def test_what_all_say_is_said_once(two) -> None:
    assert [one.leave(ConfigError("the same")).told for one in two] == [False, True]
    assert [one.leave(Interrupted(signal.SIGTERM, "stopped and saved")).told for one in two] == [False, True]


def test_a_connection_that_broke_is_known_under_what_came_after(two) -> None:
    """torchrun ends the others with SIGTERM, which may come while the error is on its way."""
    def unwound() -> None:
        try:
            raise BROKEN
        finally:
            raise Interrupted(signal.SIGTERM, "stopped")

    with pytest.raises(Interrupted) as stopped:
        unwound()
    assert is_lost(stopped.value)
    assert not is_lost(RuntimeError("out of memory"))


def test_a_device_that_never_ends_is_not_waited_for_once_a_stop_is_asked_for(monkeypatch) -> None:
    stream = SimpleNamespace(record_event=lambda: SimpleNamespace(query=lambda: False))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    monkeypatch.setattr(distributed, "STUCK", 0.05)
    asked = []
    distributed.Place(torch.device("cuda"), rank=0, world_size=2).wait(lambda: asked.append(1) or len(asked) > 3)
    assert len(asked) > 4
