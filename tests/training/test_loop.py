"""The loop: exact resume, stopping, the finite check, what is due. On stand-ins."""

import errno
import json
import math
import multiprocessing
import os
import signal
import threading

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from training.conftest import Kit

from wakedream.errors import Interrupted, RunError
from wakedream.progress import ProgressBar
from wakedream.runs import log_lines
from wakedream.training import checkpoint, loop
from wakedream.training.checkpoint import Checkpoints, read_state
from wakedream.training.gradients import clip_and_guard
from wakedream.training.interrupt import Interruption
from wakedream.training.metrics import Check
from wakedream.training.state import load_optimizer
from wakedream.training.stored import read_all
from wakedream.training.tree import all_finite, pack


class Killed(BaseException):
    pass


def losses(folder) -> list[tuple]:
    names = ("step", "loss", "square", "grad_norm", "psnr")
    return [tuple(line.get(name) for name in names) for line in log_lines(folder / "metrics.jsonl")]


def final(folder) -> dict[str, torch.Tensor]:
    checkpoints = Checkpoints(folder / "checkpoints", 2)
    return pack(read_all(checkpoints.load(checkpoints.latest())))[0]


def look(model) -> Check:
    torch.rand(5)  # must not disturb training
    return Check({"psnr": float(model.first.weight.mean())}, torch.zeros(4, 6, 3, dtype=torch.uint8))


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("kill_after", [4, 5])
def test_killed_and_resumed_is_bit_for_bit_the_same(tmp_path, kit, accumulate, kill_after) -> None:
    kit.run(tmp_path / "whole", evaluate=look, accumulate=accumulate)

    class Dies(kit.Objective):
        def forward(self, clip):
            if self.calls == kill_after * accumulate:
                raise Killed
            return super().forward(clip)

    with pytest.raises(Killed):
        kit.run(tmp_path / "parts", Dies, evaluate=look, accumulate=accumulate)
    torch.rand(17)  # another process has other random numbers
    kit.run(tmp_path / "parts", evaluate=look, accumulate=accumulate)
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    whole, parts = final(tmp_path / "whole"), final(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    assert [name for name in whole if not torch.equal(whole[name], parts[name])] == []
    assert any(name.startswith("optimizers.0.") for name in whole)
    assert not any("frozen" in name for name in whole)


def test_looking_at_held_out_data_changes_nothing(tmp_path, kit) -> None:
    kit.run(tmp_path / "with", evaluate=look)
    kit.run(tmp_path / "without")
    with_, without = final(tmp_path / "with"), final(tmp_path / "without")
    assert all(torch.equal(with_[name], without[name]) for name in without)
    assert sorted(path.name for path in (tmp_path / "with" / "images").iterdir()) == [
        "step_00000003.png", "step_00000006.png"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_finishes_the_step_and_saves(tmp_path, kit, number) -> None:
    class Asked(kit.Objective):
        def forward(self, clip):
            if self.calls == 2:
                os.kill(os.getpid(), number)
            return super().forward(clip)

    handler = signal.getsignal(number)
    with pytest.raises(Interrupted, match="step 3") as stopped:
        kit.run(tmp_path / "parts", Asked, log_every=2)  # between two lines of metrics
    assert stopped.value.signal == number
    assert signal.getsignal(number) == handler
    kit.run(tmp_path / "parts", log_every=2)
    kit.run(tmp_path / "whole", log_every=2)
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")


def test_a_second_signal_stops_at_once(tmp_path, kit) -> None:
    class Asked(kit.Objective):
        def forward(self, clip):
            if self.calls == 3:
                os.kill(os.getpid(), signal.SIGINT)
                os.kill(os.getpid(), signal.SIGINT)
            return super().forward(clip)

    with pytest.raises(Interrupted, match="at once"):
        kit.run(tmp_path / "run", Asked)
    assert Checkpoints(tmp_path / "run" / "checkpoints", 2).latest().name == "step_00000002"


def test_a_signal_and_its_echo_are_one() -> None:
    """torchrun passes on what the processes have got themselves."""
    with Interruption(apart=60) as asked:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGTERM)
        assert asked.signal == signal.SIGTERM
        asked.heard -= 60
        with pytest.raises(Interrupted, match="at once"):
            os.kill(os.getpid(), signal.SIGTERM)


class Disk:
    """In place of `save_file`: a disk that writes the state of step 2 when it is `free`, or fails then."""

    def __init__(self, monkeypatch, fails: bool = False) -> None:
        self.free, self.fails, self.save_file, self.calls = threading.Event(), fails, checkpoint.save_file, 0
        monkeypatch.setattr(checkpoint, "save_file", self)

    def __call__(self, tensors, file) -> None:
        self.calls += 1
        if self.calls == 1:
            assert self.free.wait(60)
            if self.fails:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.save_file(tensors, file)


def test_training_goes_on_while_a_slow_disk_writes(tmp_path, kit, monkeypatch) -> None:
    """The disk has not written step 2 when step 4 is made; what it writes in the end is step 2 all the same."""
    kit.run(tmp_path / "whole", keep_checkpoints=9)
    disk, there = Disk(monkeypatch), []

    class Frees(kit.Objective):
        def forward(self, clip):
            if self.calls == 3:
                there.append(list((tmp_path / "slow" / "checkpoints").glob("step_*")))
                disk.free.set()
            return super().forward(clip)

    kit.run(tmp_path / "slow", Frees, keep_checkpoints=9)
    assert there == [[]]
    for step in (2, 4, 6):
        whole, slow = (pack(read_all(read_state(tmp_path / run / "checkpoints" / f"step_{step:08d}")))[0]
                       for run in ("whole", "slow"))
        assert whole.keys() == slow.keys()
        assert [name for name in whole if not torch.equal(whole[name], slow[name])] == []


def test_a_failed_write_stops_the_run_at_the_next_step_that_knows(tmp_path, kit, monkeypatch) -> None:
    kit.run(tmp_path / "run", steps=2)
    disk, save = Disk(monkeypatch, fails=True), loop.save
    monkeypatch.setattr(loop, "save", lambda state, checkpoints: state.step == 4 and save(state, checkpoints))

    class Frees(kit.Objective):
        def forward(self, clip):
            if self.calls == 3:
                disk.free.set()
            return super().forward(clip)

    with pytest.raises(RunError, match=r"no space left while writing .*step_00000004"):
        kit.run(tmp_path / "run", Frees, steps=10**4)
    assert Checkpoints(tmp_path / "run" / "checkpoints", 2).latest().name == "step_00000002"
    assert disk.calls == 1
    assert len(log_lines(tmp_path / "run" / "metrics.jsonl")) < 10**4


def test_a_process_killed_while_the_thread_writes_leaves_the_one_before(tmp_path, kit) -> None:
    """And the same command goes on from there as if nothing had happened."""
    np.random.seed(0)
    kit.run(tmp_path / "whole")
    killed = multiprocessing.get_context("spawn").Process(target=die_while_writing, args=(tmp_path / "run",))
    killed.start()
    killed.join()
    assert killed.exitcode == 9
    folder = tmp_path / "run" / "checkpoints"
    assert list(folder.glob(".step_00000004.partial/model"))
    kit.run(tmp_path / "run")
    assert not list(folder.glob(".*"))
    whole, parts = final(tmp_path / "whole"), final(tmp_path / "run")
    assert [name for name in whole if not torch.equal(whole[name], parts[name])] == []


def test_a_process_killed_while_the_thread_writes_best_weights_leaves_those_before(tmp_path, kit) -> None:
    folder = tmp_path / "run"
    killed = multiprocessing.get_context("spawn").Process(target=die_while_writing_best, args=(folder,))
    killed.start()
    killed.join()
    assert killed.exitcode == 9
    assert (folder / ".best.partial").exists()
    assert load_file(folder / "best" / "model.safetensors")["calls"] == 2
    kit.run(folder, evaluate=better)
    assert not list(folder.glob(".best*"))
    assert load_file(folder / "best" / "model.safetensors")["calls"] == 6


def better(model) -> Check:
    """Than any before."""
    return Check({}, None, float(model.calls), "steps")


def dying(calls, begun):
    """An objective whose process dies after so many calls, once that has begun."""
    class Dies(Kit.Objective):
        def forward(self, clip):
            if self.calls == calls:
                assert begun.wait(60)
                os._exit(9)
            return super().forward(clip)

    return Dies


def die_while_writing_best(folder) -> None:
    """In step 5, those of step 4 half written, those of step 2 complete."""
    begun, write = threading.Event(), Kit.Model.save_within

    def save_within(model, folder) -> None:
        write(model, folder)
        if "best" in str(folder) and model.calls == 4:
            begun.set()
            threading.Event().wait()

    Kit.Model.save_within = save_within
    Kit.run(folder, dying(4, begun), evaluate=better, evaluate_every=2, save_every=100)


def die_while_writing(folder) -> None:
    """In step 6, the second checkpoint half written, the first complete."""
    begun = threading.Event()

    def write(tensors, file) -> None:
        if "00000004" in str(file):
            begun.set()
            threading.Event().wait()
        save_file(tensors, file)

    checkpoint.save_file = write
    np.random.seed(0)
    Kit.run(folder, dying(5, begun))


def test_one_bad_step_is_left_out_and_counted(tmp_path, kit) -> None:
    kit.run(tmp_path / "run", lambda: kit.Objective(range(2, 3)))
    assert [line["skipped"] for line in log_lines(tmp_path / "run" / "metrics.jsonl")] == [0, 0, 1, 1, 1, 1]
    assert all_finite(final(tmp_path / "run"))


def test_bad_steps_in_a_row_stop_the_run_and_the_last_checkpoint_stays(tmp_path, kit) -> None:
    with pytest.raises(RunError, match=r"step 14: the last 10 steps were not finite \(.*square nan"):
        kit.run(tmp_path / "run", lambda: kit.Objective(range(4, 99)), steps=50, save_every=4, log_every=2)
    assert Checkpoints(tmp_path / "run" / "checkpoints", 2).latest() is not None


def test_never_finite_stops_at_the_first_look(tmp_path, kit) -> None:
    with pytest.raises(RunError, match="step 1"):
        kit.run(tmp_path / "run", lambda: kit.Objective(range(99)))
    assert Checkpoints(tmp_path / "run" / "checkpoints", 2).latest() is None


def test_clip_and_guard() -> None:
    weights = [torch.nn.Parameter(torch.zeros(shape)) for shape in ((2, 3), (4,), (1,))]
    for loss, clip, factor in ((1.0, 1.0, 0.2), (1.0, 10.0, 1.0), (1.0, None, 1.0), (float("inf"), 1.0, 0.0)):
        weights[0].grad, weights[1].grad = torch.zeros(2, 3), torch.tensor([3.0, 0.0, 4.0, 0.0])
        norm, finite = clip_and_guard(weights, clip, torch.tensor(loss))
        assert norm == 5.0
        assert bool(finite) == (factor > 0)
        assert torch.allclose(weights[1].grad, factor * torch.tensor([3.0, 0.0, 4.0, 0.0]))
        assert weights[2].grad is None


def test_a_finished_run_is_left_alone_and_may_be_prolonged(tmp_path, kit) -> None:
    kit.run(tmp_path / "run")
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    assert kit.run(tmp_path / "run").step == 6
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before
    assert kit.run(tmp_path / "run", steps=8).step == 8


def test_frames_are_counted_across_a_change_of_the_batch(tmp_path, kit) -> None:
    kit.run(tmp_path / "run", steps=2)
    assert kit.run(tmp_path / "run", steps=4, accumulate=2).frames == 48
    assert [line["frames"] for line in log_lines(tmp_path / "run" / "metrics.jsonl")] == [8, 16, 32, 48]


def test_a_resumed_optimizer_has_the_options_of_where_it_goes_on(kit) -> None:
    """Not of the device that it comes from: a CUDA graph takes only an AdamW that is capturable."""
    model = kit.Model()
    first, second = (torch.optim.AdamW(model.parameters(), lr=rate, fused=True) for rate in (1e-2, 1e-3))
    model(torch.ones(1, 4)).sum().backward()
    first.step()
    second.param_groups[0]["capturable"] = True
    load_optimizer(second, first.state_dict()["state"])
    group = second.param_groups[0]
    assert (group["capturable"], group["lr"]) == (True, 1e-3)
    for parameter in model.parameters():
        for name, value in first.state[parameter].items():
            assert torch.equal(second.state[parameter][name], value)


def test_minutes_end_training(tmp_path, kit) -> None:
    state = kit.run(tmp_path / "run", steps=10**6, minutes=0.002, log_every=10**6, save_every=10**6)
    assert 0.12 <= state.elapsed < 1.0
    assert 2 < state.step < 10**5


def test_metrics_lines(tmp_path, kit) -> None:
    kit.run(tmp_path / "run", log_every=2)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 6]
    assert {"kind", "step", "loss", "square", "size", "grad_norm", "lr", "skipped", "frames", "elapsed",
            "frames_per_second"} == set(lines[0])
    assert lines[1]["frames"] == 32
    assert list((tmp_path / "run" / "tensorboard").iterdir())


def test_the_console_says_the_pace_of_training_alone(kit, tmp_path):
    """The first steps, which compile, and checks do not count: nothing is said of a rate before the fourth step."""
    paces = []

    def keep(bar, done, *, pace, **words):
        paces.append(pace)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ProgressBar, "update", keep)
        state = kit.run(tmp_path / "run", steps=6)
    assert [rate > 0 for rate, _ in paces] == [False] * 3 + [True] * 3
    assert [left for _, left in paces[:3]] == [math.inf] * 3 and paces[-1][1] == 0
    assert paces[-1][0] == pytest.approx(3 * 8 / state.elapsed)


def test_the_console_counts_what_this_process_has_done(kit, tmp_path, capsys):
    """After a resume too: 2 of 4 steps, each of 8 frames."""
    kit.run(tmp_path / "run", steps=2)
    capsys.readouterr()
    shown = []
    update = ProgressBar.update

    def keep(bar, done, **words):
        shown.append((bar.initial, done))
        update(bar, done, **words)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ProgressBar, "update", keep)
        kit.run(tmp_path / "run", steps=4)
    assert shown == [(16, 24), (16, 32)]
