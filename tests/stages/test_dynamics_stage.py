"""Stage 2: resumed bit for bit, the best dreamer kept, what does not fit refused before anything is written."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from stages.conftest import small_dynamics, write_played, write_tokenizer

from wakedream import runs
from wakedream.data.loader import evaluation_clips
from wakedream.data.manifest import shard_path
from wakedream.data.store import Store
from wakedream.dynamics.dynamics import Dynamics
from wakedream.dynamics.encode import encode_store
from wakedream.dynamics.latents import LatentStore, read_source, write_latents
from wakedream.dynamics.objective import DynamicsObjective
from wakedream.errors import CheckpointError, ConfigError, DataError, WeightsError
from wakedream.perceptual.lpips import LPIPS
from wakedream.perceptual.trunks import trunk
from wakedream.runs import log_lines
from wakedream.stages import dynamics as stage
from wakedream.stages.checks import Perception
from wakedream.stages.dynamics import train_dynamics
from wakedream.tokenizer.tokenizer import Tokenizer
from wakedream.training.checkpoint import read_json
from wakedream.training.metrics import Check
from wakedream.training.summary import describe
from wakedream.world.model import World


class Killed(BaseException):
    pass


CLOCKS = ("elapsed", "frames_per_second")


def numbers(out: Path) -> list[dict]:
    """metrics.jsonl without what a clock measured."""
    return [{name: value for name, value in line.items() if name not in CLOCKS}
            for line in log_lines(out / "metrics.jsonl")]


def final(out: Path) -> tuple[dict[str, torch.Tensor], dict]:
    """All tensors of the state after four steps, and all plain values but the clock's and Python's random numbers, of
    which the checks of annotations take some."""
    folder = out / "checkpoints" / "step_00000004"
    plain = read_json(folder)["state"]
    plain["processes"] = [process["batches"] for process in plain["processes"]]
    return load_file(folder / "state.safetensors"), {name: plain[name] for name in plain if name not in CLOCKS}


def unequal(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> list[str]:
    assert ours.keys() == theirs.keys()
    return [name for name in ours if not torch.equal(ours[name], theirs[name])]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, played, eyes) -> dict[str, Path]:
    """A finished run for each source of latents."""
    folder = tmp_path_factory.mktemp("runs")
    for source in ("stored", "live"):
        train_dynamics(small_dynamics(eyes, source, evaluate_every=1), played, folder / source, "debug")
    return {source: folder / source for source in ("stored", "live")}


@pytest.mark.parametrize(("source", "dies_at"), [("stored", 1), ("stored", 2), ("stored", 3), ("live", 3)])
def test_killed_and_resumed_is_the_same_bit_for_bit(tmp_path, played, eyes, whole, monkeypatch, source, dies_at):
    """Also over step 2, the first with bootstrap rows. dies_at 1 comes before the first checkpoint."""
    forward, calls = DynamicsObjective.forward, []

    def dies(self, clip):
        calls.append(1)
        if len(calls) == dies_at + 1:
            raise Killed
        return forward(self, clip)

    monkeypatch.setattr(DynamicsObjective, "forward", dies)
    run, out = small_dynamics(eyes, source, evaluate_every=1), tmp_path / "run"
    with pytest.raises(Killed):
        train_dynamics(run, played, out, "debug")
    monkeypatch.undo()
    torch.rand(3)
    train_dynamics(run, played, out, "debug")
    assert numbers(out) == numbers(whole[source])
    (ours, plain), (theirs, expected) = final(out), final(whole[source])
    assert unequal(ours, theirs) == []
    assert plain == expected
    assert plain["best"] is not None
    assert len(plain["processes"]) == 1
    assert {name.split(".")[0] for name in ours} >= {"objective", "optimizers", "ema", "balance", "processes"}
    best = [load_file(run / "best" / "model.safetensors") for run in (out, whole[source])]
    assert unequal(*best) == []


def test_the_run_folder(whole, played, eyes) -> None:
    out = whole["stored"]
    names = {path.name for path in out.iterdir()} - {".lock"}
    assert names == {"config.json", "metrics.jsonl", "tensorboard", "images", "checkpoints", "tokenizer", "best"}
    lines = log_lines(out / "metrics.jsonl")
    assert ["bootstrap" in line for line in lines if line["kind"] == "train"] == [False, False, True, True]
    assert {"psnr", "psnr_1", "psnr_8", "psnr_16"} <= lines[-1].keys()
    world = World.from_pretrained(out)
    assert world.dynamics.tokenizer == Tokenizer.from_pretrained(eyes).fingerprint()
    latents = next((eyes / "latents").iterdir())
    stored = LatentStore.open(latents)
    assert torch.equal(world.dynamics.latent_mean, stored.mean)
    assert float(world.dynamics.latent_scale) == pytest.approx(stored.scale)
    assert world.dynamics.actions == Store.open(played).spec


def judged(monkeypatch, scores: list[float], by: str = "") -> list[dict[str, torch.Tensor]]:
    """Training's checks give these scores, one after the other; the weights that each was given."""
    seen: list[dict[str, torch.Tensor]] = []

    def evaluate(model: Dynamics) -> Check:
        seen.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        return Check({"psnr": 0.0}, None, scores[len(seen) - 1], by)

    monkeypatch.setattr(stage, "held_out", lambda *_: evaluate)
    return seen


def test_the_weights_that_dreamed_best_are_kept(tmp_path, played, eyes, monkeypatch) -> None:
    """Not the last ones; and a resumed run remembers how good they were."""
    run, out = small_dynamics(eyes, evaluate_every=1), tmp_path / "run"
    seen = judged(monkeypatch, [1.0, 3.0, 2.0, float("nan")])
    train_dynamics(run, played, out, "debug")
    assert unequal(World.from_pretrained(out).dynamics.state_dict(), seen[1]) == []
    assert unequal(seen[1], seen[3])
    judged(monkeypatch, [2.9, 2.9])
    train_dynamics(small_dynamics(eyes, evaluate_every=1, steps=6), played, out, "debug")
    assert unequal(World.from_pretrained(out).dynamics.state_dict(), seen[1]) == []
    better = judged(monkeypatch, [3.1])
    train_dynamics(small_dynamics(eyes, evaluate_every=1, steps=7), played, out, "debug")
    assert unequal(World.from_pretrained(out).dynamics.state_dict(), better[0]) == []
    other = judged(monkeypatch, [float("nan"), -0.2, -0.3], by="LPIPS of 4 dreams")  # nothing to compare with yet
    train_dynamics(small_dynamics(eyes, evaluate_every=1, steps=10), played, out, "debug")
    assert unequal(World.from_pretrained(out).dynamics.state_dict(), other[1]) == []


def test_weights_that_know_larger_steps_take_the_place_of_all_before(tmp_path, played, eyes, monkeypatch) -> None:
    """Where few frames are learned by heart the best dreams come early: kept, they would never have met the steps that
    dreams are made with."""
    scores = [9.0, 8.0, 1.0, 2.0, 1.5]
    monkeypatch.setattr(Perception, "score", lambda self, found, count: (scores.pop(0), "PSNR of dreams"))
    run, out = small_dynamics(eyes, evaluate_every=1, steps=5), tmp_path / "run"
    train_dynamics(replace(run, objective=replace(run.objective, bootstrap_from=2)), played, out, "debug")
    kept = World.from_pretrained(out).dynamics
    assert kept.shortcut and not scores
    newest = sorted((out / "checkpoints").glob("step_*"))[-1]
    assert read_json(newest)["state"]["best"] == 2.0


def test_dreams_are_judged_by_the_frames_that_followed(tmp_path, played, eyes, monkeypatch) -> None:
    """By PSNR where LPIPS cannot be had: what truly followed the context is perfect, a frame late is not. The clips are
    those of any other seed."""
    store, tokenizer, place = Store.open(played), Tokenizer.from_pretrained(eyes), stage.Place(torch.device("cpu"))
    latents = encode_store(tokenizer, store, tmp_path / "latents")
    run = small_dynamics(eyes, seed=3)
    video = evaluation_clips(store, "held_out", 4, 32).video.float() / 255
    monkeypatch.setattr(stage, "roll_out", lambda model, clip, context: clip.latents[:, context:])
    scores = []
    for late in (0, 1):
        monkeypatch.setattr(stage, "pictures_of", lambda eyes, clip, made, late=late: video[:, 16 - late:32 - late])
        look = stage.held_out(store, latents, tokenizer, 4, place, Perception(store, place))
        check = look(Dynamics(run.model))
        assert check.score == check.values["psnr"]
        scores.append(check.score)
    assert scores[0] == 100 > scores[1]


def with_lpips(monkeypatch) -> None:
    weights = {name: torch.zeros(shape) for name, shape in trunk("alex").shapes().items()}
    monkeypatch.setattr(LPIPS, "load", lambda net: LPIPS(net, weights))


def test_lpips_judges_where_it_can(tmp_path, played, monkeypatch) -> None:
    """Its network has a least size; without its weights training goes on all the same."""
    with_lpips(monkeypatch)
    place, large = stage.Place(torch.device("cpu")), Store.open(write_played(tmp_path / "large", size=32))
    assert Perception(Store.open(played), place).lpips is None
    assert Perception(large, place).judged_by == "lpips"
    assert Perception(large, place, recorded="psnr").judged_by == "psnr"
    monkeypatch.undo()
    monkeypatch.setenv("WAKEDREAM_CACHE", str(tmp_path / "empty"))
    assert Perception(large, place).judged_by == "psnr"


def test_what_is_installed_later_changes_nothing_about_the_best_weights(tmp_path, monkeypatch) -> None:
    """A run goes on by the measure that it began with, or says what it lacks."""
    monkeypatch.setenv("WAKEDREAM_CACHE", str(tmp_path / "empty"))
    data = write_played(tmp_path / "large", size=32)
    eyes = write_tokenizer(tmp_path / "eyes", height=32, width=32)

    def train(out: Path, steps: int) -> tuple[str, str]:
        train_dynamics(small_dynamics(eyes, steps=steps), data, out)
        newest = sorted((out / "checkpoints").glob("step_*"))[-1]
        return json.loads((out / "config.json").read_text())["judged_by"], read_json(newest)["state"]["best_by"]

    assert train(tmp_path / "without", 2) == ("psnr", "PSNR of 4 dreams")
    with monkeypatch.context() as here:
        with_lpips(here)
        assert train(tmp_path / "without", 4) == ("psnr", "PSNR of 4 dreams in larger steps")
        assert "lpips" in log_lines(tmp_path / "without" / "metrics.jsonl")[-1]  # it is told all the same
        assert train(tmp_path / "with", 2) == ("lpips", "LPIPS of 4 dreams")
    with pytest.raises(WeightsError, match="chooses its best weights by LPIPS, .*wakedream weights lpips"):
        train(tmp_path / "with", 4)


def test_minutes_end_training(tmp_path, played, eyes) -> None:
    run = small_dynamics(eyes, steps=10**6, minutes=0.01, log_every=10**5, evaluate_every=10**5, save_every=10**6)
    train_dynamics(run, played, tmp_path / "run", "debug")
    state = read_json(tmp_path / "run" / "checkpoints" / (tmp_path / "run/checkpoints/latest").read_text().strip())
    assert 2 < state["step"] < 10**5
    assert 0.6 <= state["state"]["elapsed"] < 10
    assert World.from_pretrained(tmp_path / "run").dynamics.shortcut


def test_a_tokenizer_must_be_given_and_must_fit(tmp_path, played, eyes) -> None:
    run, out = small_dynamics(eyes), tmp_path / "run"
    other = write_tokenizer(tmp_path / "wide", num_latents=6, latent_dim=10)
    for tokenizer, error, message in (
            ("", ConfigError, "--tokenizer: expected the run folder"),
            (str(tmp_path / "none"), CheckpointError, "does not exist"),
            (str(other), ConfigError, r"6x10 latents .*takes 4x8: use --model\.num-latents 6 --model\.latent-dim 10")):
        with pytest.raises(error, match=message):
            train_dynamics(replace(run, tokenizer=tokenizer), played, out)
    assert not out.exists()
    assert not (other / "latents").exists()


def test_latents_of_another_tokenizer_are_refused(tmp_path, played, eyes) -> None:
    own, other = (Tokenizer.from_pretrained(path).fingerprint()
                  for path in (eyes, write_tokenizer(tmp_path / "other", seed=1)))
    encode_store(Tokenizer.from_pretrained(tmp_path / "other"), Store.open(played), tmp_path / "latents")
    run = replace(small_dynamics(eyes), latents=str(tmp_path / "latents"))
    with pytest.raises(DataError, match=f"tokenizer {other[:12]}.*given is {own[:12]}"):
        train_dynamics(run, played, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_latents_that_are_not_finite_are_refused(tmp_path, played, eyes) -> None:
    """A tokenizer that has diverged, and a number gone bad in what was stored."""
    broken = Tokenizer.from_pretrained(eyes)
    with torch.no_grad():
        broken.to_latent.weight[0, 0] = float("nan")
    broken.save_pretrained(tmp_path / "broken")
    with pytest.raises(DataError, match="latents that are not finite, first at frame 0"):
        train_dynamics(small_dynamics(tmp_path / "broken"), played, tmp_path / "run")
    store = Store.open(played)
    encode_store(Tokenizer.from_pretrained(eyes), store, tmp_path / "latents")
    path = shard_path(tmp_path / "latents", 0)
    tensors, source = load_file(path), read_source(path)
    for split in ("train", "held_out"):
        episode = store.split(split)[-1].id
        latents = tensors["latents"].clone()
        latents[LatentStore.open(tmp_path / "latents")._spans[episode].start + 20] = float("nan")
        write_latents(path, latents, tensors["alone"], source)
        run = replace(small_dynamics(eyes), latents=str(tmp_path / "latents"))
        with pytest.raises(DataError, match=f"episode {episode} .*not finite, first at frame 20"):
            train_dynamics(run, played, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_resumed_run_has_the_same_data_tokenizer_and_options(tmp_path, played, eyes, whole) -> None:
    out = tmp_path / "run"
    shutil.copytree(whole["stored"], out)
    before = {path: path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file() and path.name != ".lock"}
    buttons, large = write_played(tmp_path / "buttons", choices=6), write_played(tmp_path / "large", size=32)
    run, other = small_dynamics(eyes), write_tokenizer(tmp_path / "other", seed=1)
    wide = replace(run, model=replace(run.model, dim=64))
    kept = replace(run, latents=str(next((eyes / "latents").iterdir())))
    for changed, data, error, message in (
            (run, buttons, ConfigError, f"another data set: .*squares.*now {buttons}"),
            (kept, buttons, ConfigError, f"another data set: .*squares.*now {buttons}"),
            (run, large, ConfigError, f"another data set: .*squares.*now {large}"),
            (small_dynamics(other), played, ConfigError, f"another tokenizer: {eyes}.*now {other}"),
            (wide, played, ConfigError, r"model\.dim was 32, now 64")):
        with pytest.raises(error, match=message):
            train_dynamics(changed, data, out, "debug")
    assert {path: path.read_bytes() for path in before} == before
    assert not (other / "latents").exists() and len(list((eyes / "latents").iterdir())) == 1  # refused in time
    for data, error, message in (
            (buttons, DataError, "are those of the data set .* the data set given is"),
            (large, ConfigError, "frames of 32x32 with 3 channels, the tokenizer takes 16x16 with 3")):
        with pytest.raises(error, match=message):
            train_dynamics(kept if data == buttons else run, data, tmp_path / "new", "debug")
    assert not (tmp_path / "new").exists()
    moved = shutil.copytree(eyes, tmp_path / "moved")  # the same one from elsewhere is welcome
    train_dynamics(small_dynamics(moved, steps=5), played, out, "debug")
    assert json.loads((out / "config.json").read_text())["tokenizer"]["path"] == str(moved)


def test_a_run_without_long_enough_held_out_episodes_goes_unchecked(tmp_path, played, eyes, monkeypatch, capsys):
    monkeypatch.setattr(stage, "HORIZON", 40)
    train_dynamics(small_dynamics(eyes, steps=1), played, tmp_path / "run")
    assert "no held-out episode of 56 frames: training goes unchecked" in capsys.readouterr().err
    assert not (tmp_path / "run" / runs.BEST).exists()
    assert World.from_pretrained(tmp_path / "run").dynamics.config == small_dynamics(eyes).model


def test_inspect_tells_what_a_run_its_checkpoint_and_its_weights_are(whole, played, eyes) -> None:
    out, name = whole["stored"], Tokenizer.from_pretrained(eyes).fingerprint()[:12]
    for path, parts in {
        out: ("stage: dynamics", "preset: debug", f"data: {played}", f"tokenizer: {eyes} ({name})", "step: 4",
              f"best weights: {out / 'best'}", "held_out: step 4, psnr"),
        out / "checkpoints" / "step_00000004": ("of: dynamics model", "step: 4", "parameters: "),
        out / "best": ("of: dynamics model", "finest_steps 8", "action: move, categorical, 4", name),
        out / "tokenizer": ("of: tokenizer", "latent_dim 8"),
    }.items():
        said = describe(path)
        assert [part for part in parts if part not in said] == [], said
