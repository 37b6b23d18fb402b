"""Four steps = two steps, killed, two more, bit for bit, with the real tokenizer and the real loader."""

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from wakedream import Tokenizer
from wakedream.errors import CheckpointError, ConfigError, RunError
from wakedream.runs import locked, log_lines
from wakedream.stages import tokenizer as stage
from wakedream.stages.tokenizer import train_tokenizer
from wakedream.tokenizer.objective import TokenizerObjective


class Killed(BaseException):
    pass


def numbers(out: Path) -> list[dict]:
    """metrics.jsonl without what a clock measured."""
    return [{name: value for name, value in line.items() if name not in ("elapsed", "frames_per_second")}
            for line in log_lines(out / "metrics.jsonl")]


def tensors(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "checkpoints" / "step_00000004" / "state.safetensors")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, data, small) -> Path:
    out = tmp_path_factory.mktemp("runs") / "whole"
    train_tokenizer(small(), data, out, "debug")
    return out


@pytest.mark.parametrize("dies_at", [2, 3])
def test_killed_and_resumed_is_the_same_bit_for_bit(tmp_path, data, small, whole, monkeypatch, dies_at):
    forward, calls = TokenizerObjective.forward, []

    def dies(self, clip):
        calls.append(1)
        if len(calls) == dies_at + 1:
            raise Killed
        return forward(self, clip)

    monkeypatch.setattr(TokenizerObjective, "forward", dies)
    with pytest.raises(Killed):
        train_tokenizer(small(), data, tmp_path / "run", "debug")
    monkeypatch.undo()
    torch.rand(3)
    train_tokenizer(small(), data, tmp_path / "run", "debug")
    assert numbers(tmp_path / "run") == numbers(whole)
    ours, theirs = tensors(tmp_path / "run"), tensors(whole)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


def test_the_run_folder(whole, data) -> None:
    names = {path.name for path in whole.iterdir()} - {".lock"}
    assert names == {"config.json", "metrics.jsonl", "tensorboard", "images", "checkpoints"}
    assert [line["step"] for line in log_lines(whole / "metrics.jsonl") if line["kind"] == "held_out"] == [2, 4]
    saved, state = Tokenizer.from_pretrained(whole).state_dict(), tensors(whole)
    assert all(torch.equal(saved[name], state[f"ema.{name}"]) for name in saved)
    assert any(not torch.equal(saved[name], state[f"objective.model.{name}"]) for name in saved)


def test_another_config_or_data_set_is_refused(whole, data, small, tmp_path) -> None:
    other = dataclasses.replace(small(), model=dataclasses.replace(small().model, dim=64))
    with pytest.raises(ConfigError, match=r"model\.dim was 32, now 64"):
        train_tokenizer(other, data, whole, "debug")
    copy = tmp_path / "whole"
    shutil.copytree(whole, copy)
    text = (copy / "config.json").read_text()
    fingerprint = text.split('"fingerprint": "')[1].split('"')[0]
    (copy / "config.json").write_text(text.replace(fingerprint, "0" * len(fingerprint)))
    with pytest.raises(ConfigError, match="another data set"):
        train_tokenizer(small(), data, copy, "debug")


def test_frames_of_another_shape_leave_nothing_behind(tmp_path, data, small) -> None:
    other = dataclasses.replace(small(), model=dataclasses.replace(small().model, height=32))
    expected = r"16x16 with 3 channels, the tokenizer takes 32x16.*--model\.height 16"
    with pytest.raises(ConfigError, match=expected):
        train_tokenizer(other, data, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_in_use_is_refused(tmp_path, data, small) -> None:
    in_use = f"in use by another run .process {os.getpid()}"
    with locked(tmp_path / "run"), pytest.raises(RunError, match=in_use):
        train_tokenizer(small(), data, tmp_path / "run")


def test_a_damaged_checkpoint_and_the_way_out(whole, data, small, tmp_path) -> None:
    out = tmp_path / "whole"
    shutil.copytree(whole, out)
    with open(out / "checkpoints" / "step_00000004" / "state.safetensors", "r+b") as file:
        file.seek(-5, os.SEEK_END)
        file.write(b"?")
    with pytest.raises(CheckpointError, match="goes on from step_00000002"):
        train_tokenizer(small(), data, out)
    shutil.rmtree(out / "checkpoints" / "step_00000004")
    train_tokenizer(small(), data, out)
    assert numbers(out) == numbers(whole)


def test_the_data_may_have_no_held_out_episodes(tmp_path, data, small, monkeypatch, capsys) -> None:
    whole = stage.Store.split
    monkeypatch.setattr(stage.Store, "split", lambda self, name: whole(self, name) if name == "train" else [])
    train_tokenizer(small(steps=1), data, tmp_path / "run")
    assert "no held-out episodes" in capsys.readouterr().err


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from conftest import small_run
from wakedream import cli
cli.VERBS["go"] = cli.Verb("", "__main__:go", "wakedream.data.config:InspectConfig", ("path",))
from wakedream.stages.tokenizer import train_tokenizer
def go(config):
    train_tokenizer(small_run(steps=10**6, save_every=10**6), Path(sys.argv[2]), Path(config.path), "debug")
sys.exit(cli.main(["go", sys.argv[3]]))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_stops(tmp_path, data, number) -> None:
    out = tmp_path / "run"
    command = [sys.executable, "-c", SCRIPT, str(Path(__file__).parent), str(data), str(out)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline and not (out / "metrics.jsonl").exists():
        time.sleep(0.05)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number, errors
    assert "the same command goes on" in errors
    latest = (out / "checkpoints" / "latest").read_text().strip()
    assert log_lines(out / "metrics.jsonl")[-1]["step"] == int(latest.removeprefix("step_"))
