"""How a run begins: what is refused leaves no trace, given weights are begun with, runs of every format go on."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from stages.conftest import small_dynamics, small_run, write_played, write_tokenizer

from wakedream.config import from_dict, to_dict
from wakedream.dynamics.dynamics import Dynamics
from wakedream.errors import CheckpointError, ConfigError, DataError, UserError
from wakedream.stages import skeleton
from wakedream.stages.config import DynamicsRun, TokenizerRun
from wakedream.stages.dynamics import train_dynamics
from wakedream.stages.tokenizer import train_tokenizer
from wakedream.tokenizer.tokenizer import Tokenizer
from wakedream.training.run_config import read

FORMATS = Path(__file__).parent.parent / "formats"


def start(run: TokenizerRun | DynamicsRun, data: Path, out: Path) -> None:
    (train_dynamics if isinstance(run, DynamicsRun) else train_tokenizer)(run, data, out, "debug")


def clip_of(frames: int, run: TokenizerRun | DynamicsRun) -> TokenizerRun | DynamicsRun:
    return replace(run, loader=replace(run.loader, length=frames))


@pytest.mark.parametrize("parent", [".", "runs/deep"])
def test_a_refused_start_leaves_no_trace_and_the_mended_command_works(tmp_path, data, played, eyes, monkeypatch,
                                                                      parent) -> None:
    """Whatever it was that did not fit, up to the first step itself."""
    monkeypatch.setenv("WAKEDREAM_CACHE", str(tmp_path / "empty"))
    run, dreams = small_run(steps=1), small_dynamics(eyes, steps=1)
    lpips, odd = replace(run.objective, lpips_weight=0.2), replace(run.model, height=32)
    for name, wrong, right, source in (
            ("longer", clip_of(100, run), run, data),
            ("no_lpips", replace(run, objective=lpips), run, data),
            ("frames", replace(run, model=odd), run, data),
            ("nothing", replace(run, init=str(tmp_path / "nothing")), run, data),
            ("dynamics_longer", clip_of(100, dreams), dreams, played),
            ("dynamics_frames", dreams, small_dynamics(eyes, steps=1), write_played(tmp_path / parent / "b", size=32)),
            ("dynamics_nothing", replace(dreams, init=str(tmp_path / "nothing")), dreams, played)):
        out = tmp_path / parent / name
        with pytest.raises(UserError):
            start(wrong, source, out)
        assert not out.exists(), name
        start(right, played if isinstance(right, DynamicsRun) else data, out)
        assert (out / "checkpoints" / "latest").exists()


def test_what_is_no_better_than_nothing_is_said_in_the_end(tmp_path, data, played, eyes, capsys) -> None:
    """And every look tells how far it is on what moves, beside the baseline."""
    for run, source, baseline, words in ((small_run(steps=2), data, "mean_image", "does not draw what matters"),
                                         (small_dynamics(eyes, steps=2), played, "last_frame", "that stands still")):
        start(run, source, tmp_path / baseline)
        said = capsys.readouterr()
        assert words in said.err and "2 steps." in said.out
        assert "Next" not in said.out  # what was said names what to try
        start(run, source, tmp_path / baseline)
        again = capsys.readouterr()
        assert "has finished" in again.out and "Next" not in again.out and words in again.err
        looks = [json.loads(line) for line in (tmp_path / baseline / "metrics.jsonl").read_text().splitlines()]
        last = [look for look in looks if look["kind"] == "held_out"][-1]
        assert {"psnr_moving", f"psnr_moving_{baseline}"} <= last.keys()


def test_paths_may_be_plain_strings_and_what_is_next_is_said(tmp_path, data, monkeypatch, capsys) -> None:
    monkeypatch.setattr("wakedream.stages.tokenizer.reconstruction_verdict", lambda own, mean: "")
    train_tokenizer(small_run(steps=1), str(data), str(tmp_path / "run"))
    out = tmp_path / "run"
    assert f"{out}: 1 step. Next: wakedream evaluate {out} --data {data}" in capsys.readouterr().out


def test_a_time_limit_that_ended_training_is_named(tmp_path, data, capsys) -> None:
    run = small_run(steps=10**6, minutes=1e-5)
    start(run, data, tmp_path / "run")
    said = capsys.readouterr().out
    assert re.search(r"run: [\d,]+ steps? in 1e-05 minutes, the time limit\.", said), said


def test_a_clip_that_no_episode_holds_is_told_with_its_option(tmp_path, data, played, eyes) -> None:
    for run, source in ((clip_of(99, small_run(steps=1)), data), (clip_of(96, small_dynamics(eyes, steps=1)), played)):
        with pytest.raises(DataError, match=r"no window of .* ask for shorter clips \(--loader\.length"):
            start(run, source, tmp_path / "run")


def test_a_first_step_that_fails_leaves_no_trace(tmp_path, data, monkeypatch) -> None:
    """As when the device's memory does not suffice. A folder that was there stays as it was."""
    from wakedream.tokenizer.objective import TokenizerObjective

    def fails(self, clip):
        raise torch.OutOfMemoryError("too large")

    (tmp_path / "there").mkdir()
    with monkeypatch.context() as broken:
        broken.setattr(TokenizerObjective, "forward", fails)
        for name in ("there", "run"):
            with pytest.raises(torch.OutOfMemoryError):
                start(small_run(), data, tmp_path / name)
    assert list(tmp_path.iterdir()) == [tmp_path / "there"]
    assert list((tmp_path / "there").iterdir()) == []
    start(clip_of(5, small_run(steps=1)), data, tmp_path / "there")


def test_frames_too_small_for_lpips_are_refused(tmp_path, data, monkeypatch) -> None:
    from wakedream.perceptual.lpips import LPIPS
    from wakedream.perceptual.trunks import trunk

    weights = {name: torch.zeros(shape) for name, shape in trunk("alex").shapes().items()}
    monkeypatch.setattr(LPIPS, "load", lambda net: LPIPS(net, weights))
    run = small_run()
    with pytest.raises(ConfigError, match="at least 31x31 pixels, these are 16x16"):
        start(replace(run, objective=replace(run.objective, lpips_weight=0.2)), data, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_lpips_is_held_once_while_a_tokenizer_learns_from_it(tmp_path, monkeypatch) -> None:
    from wakedream.perceptual.lpips import LPIPS
    from wakedream.perceptual.trunks import trunk

    loaded, weights = [], {name: torch.zeros(shape) for name, shape in trunk("alex").shapes().items()}
    monkeypatch.setattr(LPIPS, "load", lambda net: loaded.append(net) or LPIPS(net, weights))
    data = write_played(tmp_path / "large", size=32)
    run = small_run(steps=2)
    model, objective = replace(run.model, height=32, width=32), replace(run.objective, lpips_weight=0.2)
    start(replace(run, model=model, objective=objective), data, tmp_path / "run")
    assert loaded == ["alex"]
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert all("lpips" in line for line in lines)  # of training and of the check


def steps_of(monkeypatch) -> list[dict[str, torch.Tensor]]:
    """What `fit` was given to begin with, each time."""
    fit, seen = skeleton.fit, []

    def looks(objective, *rest, **options):
        seen.append({name: tensor.clone() for name, tensor in objective.model.state_dict().items()})
        return fit(objective, *rest, **options)

    monkeypatch.setattr(skeleton, "fit", looks)
    return seen


def test_a_tokenizer_begins_with_given_weights_once(tmp_path, data, monkeypatch) -> None:
    """From a weights folder or a run; a run that goes on has its own, even if those have gone."""
    given = write_tokenizer(tmp_path / "given", seed=5)
    weights, seen = Tokenizer.from_pretrained(given).state_dict(), steps_of(monkeypatch)
    start(replace(small_run(steps=2), init=str(given)), data, tmp_path / "run")
    assert all(torch.equal(seen[0][name], weights[name]) for name in weights)
    assert read(tmp_path / "run")["init"] == {"path": str(given),
                                              "fingerprint": Tokenizer.from_pretrained(given).fingerprint()}
    shutil.rmtree(given)
    start(replace(small_run(steps=4), init=str(given)), data, tmp_path / "run")
    assert "init" in read(tmp_path / "run")
    start(replace(small_run(steps=1), init=str(tmp_path / "run")), data, tmp_path / "next")
    last = Tokenizer.from_pretrained(tmp_path / "run").state_dict()
    assert all(torch.equal(seen[2][name], last[name]) for name in last)
    with pytest.raises(ConfigError, match="another set of starting weights"):
        start(small_run(steps=2), data, tmp_path / "next")


def test_weights_that_do_not_fit_are_no_beginning(tmp_path, data, played, eyes) -> None:
    wide = write_tokenizer(tmp_path / "wide", dim=64)
    for run, source, error, message in (
            (replace(small_run(), init=str(wide)), data, ConfigError,
             r"--init .*wide: weights of another shape, .*--model\.dim 64 there, 32 here"),
            (replace(small_dynamics(eyes), init=str(wide)), played, CheckpointError, "expected a dynamics model")):
        with pytest.raises(error, match=message):
            start(run, source, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_dynamics_begin_with_given_weights_and_their_scale(tmp_path, played, eyes, monkeypatch) -> None:
    seen = steps_of(monkeypatch)
    start(small_dynamics(eyes, steps=3), played, tmp_path / "first")
    with torch.no_grad():
        given = Dynamics.from_pretrained(tmp_path / "first")
        given.latent_mean += 1
        given.save_pretrained(tmp_path / "given")
    start(replace(small_dynamics(eyes, steps=1), init=str(tmp_path / "given")), played, tmp_path / "second")
    weights = given.state_dict()
    assert all(torch.equal(seen[1][name], weights[name]) for name in weights)


def config_of(out: Path, kind: type) -> TokenizerRun | DynamicsRun:
    return from_dict(kind, json.loads((out / "config.json").read_text())["config"])


@pytest.mark.parametrize("version", sorted(path.name for path in FORMATS.iterdir()))
def test_runs_of_every_format_go_on(tmp_path, version, monkeypatch) -> None:
    """The command that began them, and a longer one. What they were made from lies elsewhere now."""
    monkeypatch.setenv("WAKEDREAM_CACHE", str(tmp_path / "empty"))
    shutil.copytree(FORMATS / version, tmp_path, dirs_exist_ok=True)
    tokenizer = config_of(tmp_path / "tokenizer", TokenizerRun)
    assert tokenizer.init == ""
    own = replace(config_of(tmp_path / "dynamics", DynamicsRun), tokenizer=str(tmp_path / "tokenizer"),
                  latents=str(tmp_path / "latents"))
    for run, name in ((tokenizer, "tokenizer"), (own, "dynamics")):
        before, out = json.loads((tmp_path / name / "config.json").read_text()), tmp_path / name
        start(run, tmp_path / "data", out)
        assert json.loads((out / "config.json").read_text()) == before  # it had finished
        if name == "tokenizer":
            shutil.copytree(out, tmp_path / "longer")
            out = tmp_path / "longer"
        start(replace(run, train=replace(run.train, steps=6)), tmp_path / "data", out)
        assert (out / "checkpoints" / "latest").read_text().strip() == "step_00000006"
        lines = [json.loads(line)["step"] for line in (out / "metrics.jsonl").read_text().splitlines()]
        assert lines[-1] == 6 and lines[0] == 1
    assert read(tmp_path / "dynamics")["judged_by"] == "psnr"


def test_seeds_are_not_negative() -> None:
    with pytest.raises(ConfigError, match="--train.seed -1: expected a whole number from 0"):
        small_run(seed=-1)
    assert to_dict(small_run(seed=3))["train"]["seed"] == 3
