"""What the command line answers, and with which exit code."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from wakedream import cli
from wakedream.errors import DataError, Interrupted
from wakedream.training.config import TrainConfig


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    try:
        code = cli.main(list(arguments))
    except SystemExit as stop:  # tyro, on --help and on wrong options
        code = int(stop.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list:
    """Replaces what the commands do by noting what they were given."""
    notes: list = []
    find = cli.find

    def note(place: str):
        verbs = {verb.run for verb in cli.VERBS.values()} | {stage.run for stage in cli.STAGES.values()}
        return (lambda *given: notes.append(given)) if place in verbs else find(place)

    monkeypatch.setattr(cli, "find", note)
    monkeypatch.setattr(cli, "check_paths", lambda command: None)
    return notes


def test_help_lists_every_command_in_a_line(capsys) -> None:
    for arguments in ([], ["--help"], ["-h"]):
        code, out, _ = run(capsys, *arguments)
        assert code == 0
        for name in (*cli.VERBS, "train"):
            assert f"\n  {name} " in out
    assert run(capsys, "--version")[1].startswith("wakedream ")


@pytest.mark.parametrize("stage", cli.STAGES)
def test_presets_are_told_in_whole_sentences(capsys, stage) -> None:
    code, out, _ = run(capsys, "train", stage, "--help")
    rows = [line for line in out.splitlines() if line.startswith("  ")]
    assert code == 0 and len(rows) > 2
    assert all(row.endswith(".") for row in rows), rows


def test_a_sentence_is_not_cut_at_a_number() -> None:
    assert cli.first_sentence("Reaches 16.2 dB\n    in 2 min. at most, so. Then more.") == (
        "Reaches 16.2 dB in 2 min. at most, so.")


@pytest.mark.parametrize("name", cli.VERBS)
def test_every_command_has_help_and_something_to_do(capsys, name: str) -> None:
    code, out, _ = run(capsys, name, "--help")
    assert code == 0
    assert f"usage: wakedream {name}" in out
    assert callable(cli.find(cli.VERBS[name].run))


@pytest.mark.parametrize(("arguments", "message"), [
    (["recrod"], "error: unknown command 'recrod'; did you mean 'record'?"),
    (["train"], "error: expected a stage"),
    (["train", "tokeniser"], "error: unknown stage 'tokeniser'; did you mean 'tokenizer'?"),
    (["train", "tokenizer"], "error: expected a preset"),
    (["train", "tokenizer", "debgu"], "did you mean 'debug'?"),
    (["train", "tokenizer", "xyzzy"], "error: unknown tokenizer preset 'xyzzy'. Known: auto, "),
    (["train", "agent", "atuo"], "Known: crafter, crafter-small, debug, demo"),
    (["train", "tokenizer", "debug", "--data", "d", "--out", "o", "--train.steps", "0"],
     "error: steps must be at least 1, got 0"),
    (["inspect", "no/such/folder"], "error: "),
])
def test_what_the_user_can_mend_is_one_line_and_exit_code_2(capsys, arguments, message) -> None:
    code, _, err = run(capsys, *arguments)
    assert code == 2
    assert message in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize(("arguments", "message"), [
    (["train", "tokenizer", "debug", "--data", "d", "--out", "o", "--train.stesp", "4"], "--train.steps"),
    (["train", "tokenizer", "debug", "--data", "d", "--out", "o", "--train.steps", "x"], "invalid literal"),
    (["train", "tokenizer", "debug", "--data", "d"], "--out"),
    (["record"], "ENV"),
])
def test_wrong_options_are_explained(capsys, arguments, message) -> None:
    code, _, err = run(capsys, *arguments)
    assert code == 2
    assert message in err


def test_train_options_override_the_preset(capsys, called) -> None:
    code, _, err = run(capsys, "train", "tokenizer", "debug", "--data", "d", "--out", "o",
                       "--train.steps", "7", "--optim.lr", "0.5", "--train.minutes", "1.5")
    assert code == 0, err
    config, data, out, preset = called[0]
    assert (data, out, preset) == (Path("d"), Path("o"), "debug")
    assert (config.train.steps, config.train.minutes, config.optim.lr) == (7, 1.5, 0.5)
    default = cli.find(cli.STAGES["tokenizer"].preset)("debug")
    assert config.model == default.model
    assert isinstance(config.train, TrainConfig)


def test_positional_arguments(capsys, called) -> None:
    assert run(capsys, "ingest", "a.mp4", "b.mp4", "--out", "d")[0] == 0
    assert run(capsys, "record", "crafter", "--frames", "10", "--out", "d")[0] == 0
    assert called[0][0].videos == ("a.mp4", "b.mp4")
    assert called[1][0].env == "crafter"
    assert isinstance(called[1][0], cli.find(cli.VERBS["record"].config))


@pytest.mark.parametrize(("error", "code", "message"), [
    (DataError("the disk is made of cheese"), 2, "error: the disk is made of cheese\n"),
    (KeyboardInterrupt(), 130, "interrupted"),
    (Interrupted(15, "stopped and saved"), 143, "stopped and saved"),
    (PermissionError(13, "Permission denied", "d/x"), 2, "error: d/x may not be read or written (Permission denied)"),
])
def test_exit_codes(capsys, monkeypatch, error, code, message) -> None:
    def fails(config) -> None:
        raise error

    monkeypatch.setattr(cli, "inspect", fails)
    got, _, err = run(capsys, "inspect", "x")
    assert got == code
    assert message in err


def test_a_bug_keeps_its_traceback(capsys, monkeypatch) -> None:
    monkeypatch.setattr(cli, "inspect", lambda config: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(capsys, "inspect", "x")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_what_the_terminal_cannot_print_ends_no_work(tmp_path, encoding: str) -> None:
    """Names beyond its letters, and those that are no text at all, in output and in errors."""
    code = ("import sys; from wakedream import cli\n"
            r"cli.inspect = lambda config: print('x\u266b\udcff: done')" "\n"
            r"sys.exit(cli.main(['inspect', 'x']) or cli.main(['inspect', 'x', '--short', '\u266b\udcff']))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60,
                          env=os.environ | {"PYTHONIOENCODING": encoding})
    assert b": done" in done.stdout and b"Traceback" not in done.stderr, done.stderr
    assert done.returncode == 2


@pytest.mark.parametrize("arguments", ["'--help'", "'record'", "'train', 'tokenizer', 'debug', '--help'",
                                       "'evaluate', '--nonsense'"])
def test_help_and_wrong_arguments_do_not_load_torch(arguments: str) -> None:
    code = ("import sys; from wakedream.cli import main\n"
            f"try: main([{arguments}])\nexcept SystemExit: pass\nassert 'torch' not in sys.modules")
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)


@pytest.mark.parametrize(("arguments", "message"), [
    (["train", "tokenizer", "debug", "--data", "nowhere", "--out", "run"], "there is no data set at nowhere"),
    (["train", "dynamics", "debug", "--data", "empty", "--out", "run"], "empty is not a data set"),
    (["train", "tokenizer", "debug", "--data", "data", "--out", "file/run"], "file/run cannot be made"),
    (["evaluate", "TOKENIZER", "--data", "nowhere"], "there is no data set at nowhere"),
    (["dream", "nowhere", "--out", "x.mp4"], "nowhere does not exist: give a run folder"),
    (["train", "dynamics", "debug", "--data", "data", "--out", "run", "--tokenizer", "nowhere"], "nowhere does not"),
    (["dream", "empty", "--data", "data", "--out", "file/x.mp4"], "file/x.mp4 cannot be made"),
    (["inspect", "data", "--sheet", "file/x.png"], "file/x.png cannot be made"),
    (["inspect", "empty"], "empty is not a data set"),
])
def test_what_is_wrong_at_first_sight_is_said_before_torch_is_loaded(tmp_path, arguments, message) -> None:
    """Which takes seconds."""
    formats = Path(__file__).parent / "formats" / "v1"
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    (tmp_path / "data").symlink_to(formats / "data")
    given = [str(formats / "tokenizer") if word == "TOKENIZER" else word for word in arguments]
    code = (f"import sys; from wakedream.cli import main\ncode = main({given})\n"
            "sys.exit(code if 'torch' not in sys.modules else 'torch was loaded')")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, text=True, cwd=tmp_path,
                          env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)})
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["train", "tokenizer", "debug", "--help"]])
def test_a_reader_that_has_enough_is_no_error(arguments) -> None:
    """`wakedream ... | head`."""
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run([sys.executable, "-m", "wakedream", *arguments], stdout=writing, stderr=subprocess.PIPE,
                           timeout=60)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (128 + signal.SIGPIPE, b"")


def test_another_broken_pipe_is_a_bug_and_keeps_its_traceback(monkeypatch) -> None:
    def fail(*_: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(cli, "_dispatch", fail)
    with pytest.raises(BrokenPipeError):
        cli.main([])


def test_the_options_of_evaluate_are_those_of_what_is_evaluated(capsys, called, tmp_path) -> None:
    """Without RUN those common to all kinds. Torch is not needed to know."""
    formats = Path(__file__).parent / "formats" / "v1"
    common = run(capsys, "evaluate", "--help")
    assert common[0] == 0 and "--lpips-net" in common[1] and "--drift" not in common[1]
    assert "a tokenizer or a dynamics model" in " ".join(common[1].split())
    assert "--drift" in run(capsys, "evaluate", str(formats / "dynamics"), "--help")[1]
    assert "--drift" not in run(capsys, "evaluate", str(formats / "tokenizer"), "--help")[1]
    code, _, error = run(capsys, "evaluate", str(formats / "tokenizer"), "--data", "D", "--drift", "0")
    assert code == 2 and "--drift" in error
    assert run(capsys, "evaluate", "--data", "D", str(formats / "world"), "--drift", "0", "--compare", "1", "2")[0] == 0
    config, = called.pop()
    assert (config.run, config.drift, config.compare) == (formats / "world", 0, (1, 2))
    code, _, error = run(capsys, "evaluate", str(tmp_path / "nowhere"), "--data", "D")
    assert code == 2 and "does not exist: give a run folder or a weights folder" in error
    assert not called
