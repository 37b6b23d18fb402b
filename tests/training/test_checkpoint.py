"""A checkpoint is complete or absent; damage is found and the way out is named."""

import copy
import errno
import os
import shutil
import threading

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

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
    checkpoints.wait()
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
    saved.wait()
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
    saved.save(4, STATE, kit.Model())
    with pytest.raises(KeyboardInterrupt):
        saved.wait()
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
    saved.save(4, {"w": torch.tensor([1.0, float("nan")])}, kit.Model())
    with pytest.raises(RunError, match="step 4: the weights are not finite"):
        saved.wait()
    assert saved.latest().name == "step_00000003"


class Slow:
    """In place of `save_file`: a disk that writes when it is `free`."""

    def __init__(self, monkeypatch) -> None:
        self.free, self.save_file = threading.Event(), module.save_file
        monkeypatch.setattr(module, "save_file", self)

    def __call__(self, tensors, file) -> None:
        assert self.free.wait(60)
        self.save_file(tensors, file)


def full(*_) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_what_is_saved_is_the_state_of_then(saved: Checkpoints, kit, monkeypatch) -> None:
    """Whatever becomes of tensors, plain values and the model while a slow disk writes; twice, since memory is kept."""
    class Model(kit.Model):
        def save_within(self, folder) -> None:
            assert slow.free.wait(60)
            super().save_within(folder)

    for step in (4, 5):
        slow, model = Slow(monkeypatch), Model()
        state = {"step": step, "w": torch.full((3,), float(step)), "list": [step]}
        then = copy.deepcopy(state), copy.deepcopy(model.state_dict())
        saved.save(step, state, model)
        with torch.no_grad():
            for tensor in (state["w"], *model.state_dict().values()):
                tensor.add_(1)
        state["list"].append(0)
        assert saved.latest() != saved.path(step)
        slow.free.set()
        saved.wait()
        assert same(read_all(saved.load(saved.path(step))), then[0])
        assert same(load_file(saved.path(step) / "model" / "model.safetensors"), then[1])
        monkeypatch.undo()


def test_a_second_save_waits_for_the_first(saved: Checkpoints, kit, monkeypatch) -> None:
    slow = Slow(monkeypatch)
    saved.save(4, {**STATE, "step": 4}, kit.Model())
    second = threading.Thread(target=saved.save, args=(5, {**STATE, "step": 5}, kit.Model()))
    second.start()
    second.join(0.2)
    assert second.is_alive() and not saved.path(4).exists()
    slow.free.set()
    second.join()
    assert saved.path(4).exists()
    saved.wait()
    assert [saved.load(path)["step"] for path in saved.all()] == [4, 5]


@pytest.mark.parametrize("told_by", ["wait", "save", "exit"])
def test_a_write_that_failed_is_told_and_the_one_before_stays(saved: Checkpoints, kit, monkeypatch, told_by) -> None:
    monkeypatch.setattr(module, "save_file", full)
    saved.save(4, STATE, kit.Model())
    tell = {"wait": saved.wait, "save": lambda: saved.save(5, STATE, kit.Model()),
            "exit": lambda: saved.__exit__(None, None, None)}[told_by]
    with pytest.raises(RunError, match=r"no space left while writing .*step_00000004: free some space"):
        tell()
    assert saved.latest().name == "step_00000003" and not saved.failed
    assert not list(saved.folder.glob(".*"))
    monkeypatch.undo()
    saved.save(5, STATE, kit.Model())
    saved.wait()
    assert saved.latest().name == "step_00000005"


def test_after_another_error_the_write_ends_and_a_failed_one_is_no_more_than_a_warning(saved, kit, monkeypatch,
                                                                                       capsys) -> None:
    def fail_after(checkpoints: Checkpoints, step: int) -> None:
        with checkpoints:
            checkpoints.save(step, STATE, kit.Model())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_after(saved, 4)
    assert saved.latest().name == "step_00000004"
    monkeypatch.setattr(module, "save_file", full)
    with pytest.raises(ZeroDivisionError):
        fail_after(Checkpoints(saved.folder, keep=2), 5)
    assert "warning: writing the checkpoint failed (no space left" in capsys.readouterr().err


def test_best_weights_are_those_of_then_and_there_before_a_state_saved_later(saved: Checkpoints, kit, monkeypatch):
    best, free, write = saved.folder.parent / "best", threading.Event(), kit.Model.save_within

    def save_within(model, folder) -> None:
        assert free.wait(60)
        assert folder.name == ".best.partial" or same(load_file(best / "model.safetensors"), then)
        write(model, folder)

    monkeypatch.setattr(kit.Model, "save_within", save_within)
    model = kit.Model()
    for _ in range(2):  # the memory of the copy is kept
        then = copy.deepcopy(model.state_dict())
        free.clear()
        saved.keep_best(model)
        with torch.no_grad():
            model.first.weight.add_(1)
        assert not best.exists() or not same(load_file(best / "model.safetensors"), then)
        free.set()
        saved.save(4, STATE, model)
        saved.wait()
        assert same(load_file(best / "model.safetensors"), then)
        assert same(load_file(saved.path(4) / "model" / "model.safetensors"), model.state_dict())


def test_best_weights_that_could_not_be_written_stop_the_run(saved: Checkpoints, kit, monkeypatch) -> None:
    """The old ones stay, and no state is saved that would take the new ones for kept."""
    saved.keep_best(kit.Model())
    saved.wait()
    before = load_file(saved.folder.parent / "best" / "model.safetensors")
    with monkeypatch.context() as patch:
        patch.setattr(kit.Model, "save_within", full)
        saved.keep_best(kit.Model())
        with pytest.raises(RunError):
            saved._writing["best weights"].result()
    saved.keep_best(kit.Model())  # waits, and does not hide the error
    assert saved.failed
    with pytest.raises(RunError, match=r"no space left while writing .*best: free some space"):
        saved.save(4, STATE, kit.Model())
    assert same(load_file(saved.folder.parent / "best" / "model.safetensors"), before)
    assert saved.latest().name == "step_00000003" and not list(saved.folder.parent.glob(".*"))


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
            saved.wait()
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
