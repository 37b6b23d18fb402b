"""A checkpoint is complete or absent; damage is found and the way out is named."""

import os
import shutil

import pytest
import torch
from safetensors import SafetensorError

from wakedream import runs
from wakedream.errors import CheckpointError, RunError
from wakedream.training import checkpoint as module
from wakedream.training import sums
from wakedream.training.checkpoint import Checkpoints
from wakedream.training.stored import read_all
from wakedream.training.tree import pack, unpack

STATE = {"step": 3, "weights": {"w": torch.arange(6.0).view(2, 3)},
         "optimizers": [{"state": {0: {"m": torch.ones(2)}}, "betas": (0.9, 0.95)}], "none": None}


def same(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return a == b and type(a) is type(b)


@pytest.fixture
def saved(tmp_path, kit) -> Checkpoints:
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=2)
    for step in (1, 2, 3):
        checkpoints.save(step, {**STATE, "step": step}, kit.Model())
    return checkpoints


def test_tree_round_trip() -> None:
    assert same(STATE, unpack(*pack(STATE)))


def test_round_trip_and_pruning(saved: Checkpoints) -> None:
    assert [path.name for path in saved.all()] == ["step_00000002", "step_00000003"]
    assert saved.latest() == saved.all()[-1]
    assert same(read_all(saved.load(saved.latest())), STATE)
    names = {str(file.relative_to(saved.latest())) for file in saved.latest().rglob("*") if file.is_file()}
    assert names == {"state.json", "state.safetensors", "model/model.safetensors"}


def test_a_copy_that_a_user_keeps_beside_them_is_no_checkpoint_of_the_run(saved: Checkpoints, kit) -> None:
    """However it is called: neither gone on from nor removed, and the run's own are kept as without it."""
    names = {"step_00000002_copy", "step_00000003 (good)", "step_000002", "step_1", "step_before"}
    for name in names:
        shutil.copytree(saved.latest(), saved.folder / name)
    (saved.folder / "latest").unlink()
    assert saved.latest().name == "step_00000003"
    saved.save(4, STATE, kit.Model())
    assert [path.name for path in saved.all()] == ["step_00000003", "step_00000004"]
    assert names < {path.name for path in saved.folder.iterdir()}


def test_more_steps_than_eight_digits_have_are_in_order(saved: Checkpoints) -> None:
    for step in (99_999_999, 100_000_000):
        saved.path(step).mkdir()
    assert saved.all()[-2:] == [saved.path(99_999_999), saved.path(100_000_000)]


@pytest.mark.parametrize("name", ["state.safetensors", "state.json", "model/model.safetensors"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_damage_is_found_and_the_one_before_named(saved: Checkpoints, name: str, damage: str) -> None:
    file = saved.latest() / name
    data = bytearray(file.read_bytes())
    if damage == "remove":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(data[: len(data) // 2])
    else:
        data[-3 if name != "state.json" else data.index(b'"step": 3') + 8] ^= 1
        file.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"damaged.*delete .*step_00000003.*goes on from step_00000002"):
        saved.load(saved.latest())


def test_the_way_out_of_damage_works(saved: Checkpoints) -> None:
    shutil.rmtree(saved.latest())
    assert saved.latest().name == "step_00000002"
    assert saved.load(saved.latest())["step"] == 2


def test_the_only_one_damaged(saved: Checkpoints) -> None:
    shutil.rmtree(saved.all()[0])
    (saved.latest() / "state.safetensors").unlink()
    with pytest.raises(CheckpointError, match="none before it"):
        saved.load(saved.latest())


@pytest.mark.parametrize("dies_in", ["save_file", "_sums"])
def test_killed_while_writing(saved: Checkpoints, kit, monkeypatch, dies_in: str) -> None:
    def die(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, dies_in, die)
    with pytest.raises(KeyboardInterrupt):
        saved.save(4, STATE, kit.Model())
    assert [path.name for path in saved.all()] == ["step_00000002", "step_00000003"]
    assert saved.latest().name == "step_00000003"
    assert saved.load(saved.latest())["step"] == 3


def test_killed_between_rename_and_latest(saved: Checkpoints) -> None:
    (saved.folder / "latest").write_text("step_00000002\n")
    (saved.folder / ".step_00000004.partial").mkdir()
    saved.clean()
    assert saved.latest().name == "step_00000002"
    assert not (saved.folder / ".step_00000004.partial").exists()


def test_weights_that_are_not_finite_are_not_saved(saved: Checkpoints, kit) -> None:
    with pytest.raises(RunError, match="not finite"):
        saved.save(4, {"w": torch.tensor([1.0, float("nan")])}, kit.Model())
    assert saved.latest().name == "step_00000003"


@pytest.mark.parametrize("other", [-1, 1])
def test_another_format_is_no_damage(saved: Checkpoints, monkeypatch, other: int) -> None:
    written = sums.FORMAT
    monkeypatch.setattr(sums, "FORMAT", written + other)
    with pytest.raises(RunError, match=rf"has format {written}, this version reads format {written + other}: go on"):
        saved.load(saved.latest())


def test_a_full_disk_is_named_as_such_when_safetensors_meets_it(tmp_path):
    """Its error is none of the system's; this is its text on a full disk."""
    text = "Error while serializing: I/O error: No space left on device (os error 28)"
    with pytest.raises(RunError, match="no space left while writing .*step"), runs.atomic(tmp_path / "step"):
        raise SafetensorError(text)
    with pytest.raises(SafetensorError, match="another"), runs.atomic(tmp_path / "step"):
        raise SafetensorError("another")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [5, 27])
def test_whatever_else_the_disk_refuses_for_is_told_with_the_file(tmp_path, number):
    """An error of input and output, a file that is too large for the file system: from the system or safetensors."""
    for error in (OSError(number, "refused"), SafetensorError(f"I/O error: refused (os error {number})")):
        with pytest.raises(RunError, match="the disk refused to write .*step"), runs.atomic(tmp_path / "step"):
            raise error
    assert list(tmp_path.iterdir()) == []


def test_who_may_read_a_file_is_up_to_the_umask(saved: Checkpoints, kit, tmp_path) -> None:
    """Weights and state as all others: safetensors by itself makes files that their owner alone can read."""
    for mask in (0o022, 0o077, 0o002):
        before = os.umask(mask)
        try:
            saved.save(4, STATE, kit.Model())
        finally:
            os.umask(before)
        files = [file for file in saved.path(4).rglob("*") if file.is_file()]
        assert len(files) == 3
        assert {file.stat().st_mode & 0o777 for file in files} == {0o666 & ~mask}
        shutil.rmtree(saved.path(4))


def test_a_folder_that_cannot_be_written_is_refused_before_the_work(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(RunError, match="no permission to write"), runs.atomic(tmp_path / "x.mp4"):
        raise AssertionError("there is nowhere to write")


def test_a_file_in_the_way_to_a_file_is_named(tmp_path) -> None:
    (tmp_path / "taken").write_text("x")
    with pytest.raises(RunError, match="a file is in the way"), runs.atomic(tmp_path / "taken" / "x.mp4"):
        raise AssertionError("there is nowhere to write")
