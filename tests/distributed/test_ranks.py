"""Two processes train one model: as one process with twice the batch, whole or sharded; either goes on as the other."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import ranks
import torch
from safetensors.torch import load_file
from stages.conftest import write_data
from torch import Tensor

from wakedream import Tokenizer
from wakedream.errors import CheckpointError
from wakedream.runs import log_lines
from wakedream.training.checkpoint import Checkpoints
from wakedream.training.distributed import Place
from wakedream.training.stored import read_all
from wakedream.training.tree import pack

ALONE = Place(torch.device("cpu"))
PARALLEL = pytest.mark.parametrize("parallel", ranks.PARALLEL)


def prepare(out: Path) -> Path:
    """What the two go on from."""
    ranks.train(out / "one_half", ALONE, steps=2)
    for parallel in ranks.PARALLEL:
        shutil.copytree(out / "one_half", out / f"{parallel}_from_one")
    return out


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def start(out: Path, *arguments: str, script: str = ranks.__file__, count: int = 2,
          on_host: int | None = None) -> tuple[list[int], list[str]]:
    """Exit codes and what was said, of processes that did their work. on_host: of them, as if there were more hosts."""
    port = free_port()
    on_host = on_host or count
    rendezvous = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count),
                  "LOCAL_WORLD_SIZE": str(on_host), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    processes = [
        subprocess.Popen([sys.executable, script, str(out), *arguments],
                         env=os.environ | rendezvous | {"RANK": str(rank), "LOCAL_RANK": str(rank % on_host)},
                         stderr=subprocess.PIPE, text=True)
        for rank in range(count)
    ]
    said = [process.communicate(timeout=240)[1] for process in processes]
    assert all((out / f"done.{rank}").exists() for rank in range(count)), "\n".join(said)
    return [process.returncode for process in processes], said


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    out = prepare(tmp_path_factory.mktemp("ranks"))
    write_data(out / "data")
    codes, said = start(out, "cpu")
    assert codes[1] == 9  # killed while saving, and the other cannot go on
    assert codes[0] not in (0, 9)
    for rank in range(2):
        (out / f"said.{rank}").write_text(said[rank])
    return out


@pytest.fixture(scope="module")
def single(tmp_path_factory) -> dict[str, Tensor]:
    return ranks.everything(ranks.train(tmp_path_factory.mktemp("one") / "one", ALONE))


def same(ours: dict[str, Tensor], theirs: dict[str, Tensor], tolerance: float = 0.0) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=tolerance, atol=tolerance,
                                   msg=lambda what, name=name: f"{name}: {what}")


def of(out: Path, name: str, count: int = 2) -> dict[str, Tensor]:
    """What all ranks found, which is the same."""
    first, *others = (load_file(out / f"{name}.{rank}.safetensors") for rank in range(count))
    for other in others:
        same(first, other)
    return first


def saved(folder: Path, step: int = 4) -> dict[str, Tensor]:
    checkpoints = Checkpoints(folder / "checkpoints", 9)
    return pack(read_all(checkpoints.load(checkpoints.path(step))))[0]


@PARALLEL
def test_gradients_and_steps_are_those_of_one_rank_with_twice_the_batch(out, single, parallel) -> None:
    same(of(out, f"{parallel}_gradients"), ranks.gradients(ALONE), 1e-6)
    same(of(out, f"{parallel}_steps"), single, 1e-5)
    ranks.train(out / "one" / parallel, ALONE)
    logs = (log_lines(out / run / "metrics.jsonl") for run in (f"{parallel}_steps", f"one/{parallel}"))
    for ours, theirs in zip(*logs, strict=True):
        for name in ours.keys() - {"kind", "elapsed", "frames_per_second"}:
            assert ours[name] == pytest.approx(theirs[name], rel=1e-5), name


@PARALLEL
def test_recomputed_layers_have_the_same_gradients(out, parallel) -> None:
    same(of(out, f"{parallel}_recomputed"), of(out, f"{parallel}_gradients"), 1e-12)


@PARALLEL
def test_two_ranks_go_on_bit_for_bit(out, parallel) -> None:
    same(of(out, f"{parallel}_parts"), of(out, f"{parallel}_whole"))


@PARALLEL
def test_two_ranks_go_on_from_one(out, single, parallel) -> None:
    same(of(out, f"{parallel}_from_one"), single, 1e-5)
    assert "saved by 1 processes, going on with 2: random generators start anew" in (out / "said.0").read_text()


@PARALLEL
def test_one_rank_goes_on_from_two(out, single, parallel, tmp_path, capsys) -> None:
    shutil.copytree(out / f"{parallel}_steps", tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step_00000004")
    same(ranks.everything(ranks.train(tmp_path / "run", ALONE)), single, 1e-5)
    assert "going on from step_00000002" in capsys.readouterr().err


@PARALLEL
def test_a_checkpoint_holds_what_was_trained(out, parallel) -> None:
    tensors, trained = saved(out / f"{parallel}_steps"), of(out, f"{parallel}_steps")
    for name, tensor in trained.items():
        kind, rest = name.split(".", 1)
        entries = {"model": f"objective.model.{rest}", "ema": name,
                   "optimizer": f"optimizers.{rest}"}
        assert torch.equal(tensors[entries[kind]], tensor), name
    folder = out / f"{parallel}_steps" / "checkpoints" / "step_00000004"
    files = sorted(file.name for file in folder.glob("state*.safetensors"))
    two = ["state-00001-of-00002.safetensors", "state-00002-of-00002.safetensors"]
    assert files == (two if parallel == "fsdp" else ["state.safetensors"])
    weights = load_file(folder / "model" / "model.safetensors")
    averages = {name[4:]: tensor for name, tensor in trained.items() if name.startswith("ema.")}
    assert all(torch.equal(weights[name], averages[name]) for name in averages)
    assert weights["calls"] >= 4  # evaluation calls it too


def test_each_rank_holds_and_writes_half(out) -> None:
    folder = out / "fsdp_steps" / "checkpoints" / "step_00000004"
    first, second = (load_file(file) for file in sorted(folder.glob("state-*")))
    name = "objective.model.body.layers.0.up.weight"
    assert (len(first[name]), len(second[name])) == (5, 4)
    assert not any(name.startswith("processes") for name in second)


def test_damage_of_one_ranks_file_is_found(out, tmp_path) -> None:
    shutil.copytree(out / "fsdp_steps", tmp_path / "run")
    (file,) = (tmp_path / "run" / "checkpoints" / "step_00000004").glob("state-00002*")
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    file.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"state-00002-of-00002.*checksum.*goes on from step_00000002"):
        saved(tmp_path / "run")


def test_a_rank_killed_while_saving_leaves_the_last_checkpoint(out, single) -> None:
    checkpoints = Checkpoints(out / "fsdp_killed" / "checkpoints", 9)
    assert checkpoints.latest().name == "step_00000002"
    assert list(checkpoints.folder.glob(".*partial"))  # the half that was written
    same(ranks.everything(ranks.train(out / "fsdp_killed", ALONE)), single, 1e-5)
    assert not list(checkpoints.folder.glob(".*partial"))


def test_each_thing_is_said_once(out) -> None:
    """Progress, notes and warnings by the first; by another what is its own."""
    first, second = ((out / f"said.{rank}").read_text() for rank in range(2))
    assert all(words in first for words in ("frames/s", "going on with 2", "as all do", "of process 0 alone"))
    warned = [line for line in second.splitlines() if not line.startswith(" ")]
    assert len(warned) == 1 and warned[0].endswith("OwnWarning: of process 1 alone"), second


def test_what_one_ranks_disk_refuses_stops_both(out) -> None:
    """Each says whose it was; nothing is left that looks like a checkpoint."""
    first, second = ((out / f"full.{rank}").read_text() for rank in range(2))
    assert second.startswith("no space left while writing")
    assert first == f"process 1 could not save: {second}"
    assert not list((out / "fsdp_full" / "checkpoints").glob("step_*"))


def test_the_tokenizer_trains_sharded_as_it_does_whole(out) -> None:
    runs = [log_lines(out / f"real_{parallel}" / "metrics.jsonl") for parallel in ranks.PARALLEL]
    assert [line["kind"] for line in runs[0]].count("held_out") == 2
    for ours, theirs in zip(*runs, strict=True):
        for name in ours.keys() & {"mse", "grad_norm", "psnr", "step"}:
            assert ours[name] == pytest.approx(theirs[name], rel=2e-3), name  # Muon rounds to bf16
    whole, sharded = (Tokenizer.from_pretrained(out / f"real_{parallel}").state_dict() for parallel in ranks.PARALLEL)
    same(whole, sharded, 2e-3)


def test_sharded_layers_come_together_in_bf16_and_a_model_may_have_no_registers(out) -> None:
    """In mixed precision; the numbers are those of whole models. The first process also looks, with whole weights."""
    runs = [log_lines(out / f"bf16_{parallel}" / "metrics.jsonl") for parallel in ranks.PARALLEL]
    for ours, theirs in zip(*runs, strict=True):
        for name in ours.keys() - {"elapsed", "frames_per_second", "kind"}:
            assert ours[name] == pytest.approx(theirs[name], rel=1e-2), name
    types = {parallel: (out / f"bf16_{parallel}" / "types.1").read_text() for parallel in ranks.PARALLEL}
    assert types == {"ddp": "torch.float32", "fsdp": "torch.bfloat16"}
    kept = saved(out / "bf16_fsdp")["objective.model.encoder.layers.0.mlp.up.weight"]
    assert kept.dtype == torch.float32
    assert len(saved(out / "bf16_fsdp")["objective.model.encoder_registers"]) == 0


@PARALLEL
def test_frozen_weights_are_neither_averaged_nor_part_of_the_state(out, parallel) -> None:
    """A weights folder has them, since it is a whole model."""
    folder = out / f"{parallel}_steps"
    assert [name for name in saved(folder) if "fixed" in name] == []
    weights = load_file(folder / "checkpoints" / "step_00000004" / "model" / "model.safetensors")
    for name, tensor in ranks.made(0.0).model.fixed.state_dict().items():
        assert torch.equal(weights[f"fixed.{name}"], tensor)


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_gpus_are_one_process_on_the_cpu(tmp_path, single) -> None:
    codes, said = start(prepare(tmp_path), "cuda")
    assert codes == [0, 0], "\n".join(said)
    for parallel in ranks.PARALLEL:
        same(of(tmp_path, f"{parallel}_gradients"), ranks.gradients(ALONE), 1e-6)
        same(of(tmp_path, f"{parallel}_recomputed"), ranks.gradients(ALONE), 1e-6)
        same(of(tmp_path, f"{parallel}_parts"), of(tmp_path, f"{parallel}_whole"))
        for name in ("steps", "from_one"):
            same(of(tmp_path, f"{parallel}_{name}"), single, 2e-3)  # bf16 products in Muon differ between devices
