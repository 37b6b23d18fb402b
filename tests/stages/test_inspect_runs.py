"""What `inspect` says of runs, weights and worlds, and that it finds what is damaged."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from stages.conftest import small_dynamics, small_run, write_tokenizer

from wakedream import cli, runs
from wakedream.dynamics.dynamics import Dynamics
from wakedream.errors import CheckpointError, RunError
from wakedream.stages.dynamics import train_dynamics
from wakedream.stages.tokenizer import train_tokenizer
from wakedream.tokenizer.tokenizer import Tokenizer
from wakedream.training.sums import checksum_of
from wakedream.world.model import World

FORMATS = Path(__file__).parent.parent / "formats"


@pytest.fixture(scope="module")
def run(tmp_path_factory, played, eyes) -> Path:
    out = tmp_path_factory.mktemp("inspect") / "run"
    train_dynamics(small_dynamics(eyes, steps=2), played, out, "debug")
    return out


def spoil(file: Path) -> None:
    """One bit of the last number."""
    data = bytearray(file.read_bytes())
    data[-2] ^= 1
    file.write_bytes(data)


def inspected(capsys, path: Path) -> tuple[int, str, str]:
    code = cli.main(["inspect", str(path)])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_a_whole_run_is_said_to_be_whole(capsys, run) -> None:
    code, out, _ = inspected(capsys, run)
    assert code == 0
    for line in ("checksums: checkpoints/step_00000002: 4 files whole", "checksums: best: whole",
                 "checksums: tokenizer: whole", f"best weights: {run / 'best'}, by PSNR"):
        assert line in out


@pytest.mark.parametrize("file", ["checkpoints/step_00000002/state.safetensors", "checkpoints/step_00000002/state.json",
                                  "checkpoints/step_00000002/model/model.safetensors", "best/model.safetensors",
                                  "tokenizer/model.safetensors"])
def test_damage_is_found_and_the_rest_is_told(capsys, run, tmp_path, file) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    spoil(copy / file)
    code, out, err = inspected(capsys, copy)
    assert code == 2
    assert "stage: dynamics" in out
    assert out.count("whole") == 2
    assert f"{copy / '/'.join(file.split('/')[:-1])}".removesuffix("/model") in err


def test_a_shard_of_another_process_is_verified_too(capsys, tmp_path) -> None:
    """As a sharded run has them; here a file more that state.json knows."""
    copy = shutil.copytree(FORMATS / "v1" / "tokenizer", tmp_path / "run")
    folder = copy / "checkpoints" / "step_00000002"
    shutil.copy(folder / "state.safetensors", folder / "state-00002-of-00002.safetensors")
    values = json.loads((folder / "state.json").read_text())
    values.pop("checksum")
    values["files"]["state-00002-of-00002.safetensors"] = runs.sha256(folder / "state.safetensors")
    (folder / "state.json").write_text(json.dumps({"checksum": checksum_of(values), **values}))
    assert "5 files whole" in inspected(capsys, copy)[1]
    spoil(folder / "state-00002-of-00002.safetensors")
    code, _, err = inspected(capsys, copy)
    assert code == 2
    assert "state-00002-of-00002.safetensors is not what was written" in err


def test_weights_are_verified_when_they_are_loaded(tmp_path) -> None:
    folder = write_tokenizer(tmp_path / "weights")
    Tokenizer.from_pretrained(folder).save_pretrained(folder)  # weights of one kind may be replaced
    assert Tokenizer.from_pretrained(folder)
    spoil(folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="damaged, they are not what was written"):
        Tokenizer.from_pretrained(folder)


@pytest.mark.parametrize("version", sorted(path.name for path in FORMATS.iterdir()))
def test_what_a_world_saved_is_told(capsys, tmp_path, version) -> None:
    """Of today and of old, which had no config.json of their own."""
    world = World.from_pretrained(FORMATS / version / "world")
    world.save_pretrained(tmp_path / "world")
    for folder, checked in ((FORMATS / version / "world", "not known"), (tmp_path / "world", "whole")):
        code, out, _ = inspected(capsys, folder)
        assert code == 0
        for part in (f"world: {folder}", "of: tokenizer", "of: dynamics model", "action: move, categorical, 4",
                     f"checksums: tokenizer: {checked}", f"checksums: dynamics: {checked}"):
            assert part in out
    spoil(tmp_path / "world" / "dynamics" / "model.safetensors")
    assert inspected(capsys, tmp_path / "world")[0] == 2


def test_weights_do_not_go_where_something_else_is(tmp_path, run, played, eyes, data) -> None:
    """Not into a run, a data set, a folder of latents, another kind's weights or a file; what is there stays."""
    model, dynamics = Tokenizer.from_pretrained(eyes), Dynamics.from_pretrained(run)
    world = World.from_pretrained(run)
    train_tokenizer(small_run(steps=1), data, tmp_path / "tokenizer_run", "debug")
    (tmp_path / "file").write_text("x")
    copies = {name: shutil.copytree(path, tmp_path / name) for name, path in {
        "run": run, "data": played, "latents": next((eyes / "latents").iterdir()), "best": run / "best"}.items()}
    world.save_pretrained(tmp_path / "world")
    for saved, folder in ((model, copies["run"]), (dynamics, copies["run"]), (world, copies["run"]),
                          (model, tmp_path / "tokenizer_run"), (model, copies["data"]), (model, copies["latents"]),
                          (model, copies["best"]), (model, tmp_path / "world"), (world, copies["best"]),
                          (model, tmp_path / "file"), (model, copies["run"] / "tokenizer"),
                          (model, copies["run"] / "latents"), (dynamics, tmp_path / "tokenizer_run" / "checkpoints"),
                          (model, copies["data"] / "shards"), (model, copies["data"] / "eyes"),
                          (model, copies["latents"] / "shards"), (model, tmp_path / "world" / "tokenizer"),
                          (world, copies["run"] / "checkpoints")):
        before = {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
        with pytest.raises(RunError, match=r"holds something else|is a file|is kept by the"):
            saved.save_pretrained(folder)
        assert {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()} == before
    with torch.no_grad():
        dynamics.registers.zero_()
    dynamics.save_pretrained(copies["best"])  # the same kind is replaced
    world.save_pretrained(tmp_path / "world")
    assert not Dynamics.from_pretrained(copies["best"]).registers.any()
