"""What can be evaluated: runs, their best weights and checkpoints, weights folders, and what older versions wrote."""

import json
import shutil
from pathlib import Path

import pytest

from wakedream.errors import CheckpointError, ConfigError
from wakedream.evaluation.config import (
    DYNAMICS,
    TOKENIZER,
    DreamConfig,
    EvaluateConfig,
    EvaluateDynamicsConfig,
    EvaluateTokenizerConfig,
)
from wakedream.evaluation.evaluate import evaluate, place_of
from wakedream.evaluation.kinds import config_type, kind_of
from wakedream.world.model import World

FORMATS = Path(__file__).parent.parent / "formats" / "v1"
QUICK = {"device": "cpu", "clips": 2, "lpips": False, "videos": False}
SMALL = QUICK | {"chunks": 2, "drift": 0, "control": 0, "context": 4, "length": 8, "compare": (1,), "batch_size": 2,
                 "sampling_steps": 1}
STEP = "checkpoints/step_00000004"


@pytest.fixture
def kept(tmp_path) -> Path:
    """Copies of what an older version wrote."""
    return Path(shutil.copytree(FORMATS, tmp_path / "kept"))


@pytest.mark.parametrize(("inside", "place"), [
    ("dynamics", "dynamics/evaluation"),
    ("dynamics/best", "dynamics/evaluation/best"),
    (f"dynamics/{STEP}", "dynamics/evaluation/step_00000004"),
    (f"dynamics/{STEP}/model", "dynamics/evaluation/step_00000004"),
    ("world", "world/evaluation"),
    ("world/dynamics", "world/dynamics/evaluation"),
])
def test_dynamics_models_of_older_versions(kept, inside, place):
    """The tokenizer is found beside; the page lies outside of what training replaces, with the run's own curves."""
    folder = kept / inside
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    evaluate(EvaluateDynamicsConfig(folder, kept / "data", **SMALL))
    found = json.loads((kept / place / "metrics.json").read_text())
    assert found["dynamics"]["run"] == str(folder) and found["horizons"]
    assert ("<p>Losses over training" in (kept / place / "index.html").read_text()) == (
        inside.startswith("dynamics"))
    assert all(path.read_bytes() == content for path, content in before.items())
    World.from_pretrained(folder)
    if place.split("/")[-1] != "evaluation":
        assert not (folder / "evaluation").exists()


@pytest.mark.parametrize(("inside", "place"), [
    ("tokenizer", "tokenizer/evaluation"),
    ("tokenizer/checkpoints/step_00000002", "tokenizer/evaluation/step_00000002"),
    ("dynamics/tokenizer", "dynamics/tokenizer/evaluation"),
])
def test_tokenizers_of_older_versions(kept, inside, place):
    """A run says how long its clips were, of its checkpoints too; what lies in another run does not ask that one."""
    evaluate(EvaluateTokenizerConfig(kept / inside, kept / "data", **QUICK))
    found = json.loads((kept / place / "metrics.json").read_text())
    own = json.loads((kept / "tokenizer" / "config.json").read_text())["config"]["loader"]["length"]
    assert found["evaluated"]["training_length"] == (own if inside.startswith("tokenizer") else None)


def test_a_world_that_was_saved(world, played, tmp_path):
    """It can be evaluated, saved over and loaded."""
    folder = tmp_path / "world"
    world.save_pretrained(folder)
    assert kind_of(folder) == DYNAMICS and place_of(folder) == folder / "evaluation"
    evaluate(EvaluateDynamicsConfig(folder, played.path, **SMALL))
    world.save_pretrained(folder)
    assert World.from_pretrained(folder).fingerprint() == world.fingerprint()


def test_a_tokenizer_of_a_neighbour_is_not_taken(kept):
    """Beside a weights folder that lies in no run, a folder named 'tokenizer' belongs to someone else."""
    shutil.copytree(kept / "dynamics" / "best", kept / "lonely")
    with pytest.raises(CheckpointError, match="has no folder 'tokenizer', nor has a run that it lies in"):
        World.from_pretrained(kept / "lonely")


def test_kinds_and_their_options(kept, tmp_path):
    dynamics = [kept / "dynamics" / inside for inside in ("", "best", STEP, f"{STEP}/model")]
    dynamics += [kept / "world", kept / "world" / "dynamics"]
    assert {kind_of(path) for path in dynamics} == {DYNAMICS}
    tokenizers = [kept / "tokenizer", kept / "dynamics" / "tokenizer", kept / "world" / "tokenizer"]
    assert {kind_of(path) for path in tokenizers} == {TOKENIZER}
    for path, message in ((tmp_path / "nowhere", "does not exist"), (kept / "data", "neither a run nor a weights")):
        with pytest.raises(CheckpointError, match=message):
            kind_of(path)
    (tmp_path / "config.json").write_text('{"kind": "kettle"}')
    with pytest.raises(CheckpointError, match="holds a 'kettle': expected the run of a tokenizer or a dynamics model"):
        kind_of(tmp_path)


@pytest.mark.parametrize("words", ["RUN --data D", "--data D RUN", "--data=D RUN --compare 1 2", "--no-lpips RUN",
                                   "--compare 1 2 4 --data D RUN", "--no-videos --sampling_steps 2 RUN --help"])
def test_the_run_is_found_among_the_arguments(kept, words):
    run = str(kept / "dynamics")
    assert config_type([run if word == "RUN" else word for word in words.split()]) is EvaluateDynamicsConfig


@pytest.mark.parametrize("words", ["", "--help", "--data D", "--compare 1 2", "--no-lpips --seed 3"])
def test_without_a_run_there_are_the_options_of_all(words):
    assert config_type(words.split()) is EvaluateConfig


def test_plain_options_do_for_any_kind_and_others_are_refused(kept, tmp_path):
    evaluate(EvaluateConfig(kept / "tokenizer", kept / "data", tmp_path / "out", **QUICK))
    assert (tmp_path / "out" / "index.html").exists()
    with pytest.raises(ConfigError, match="is a dynamics model: expected a EvaluateDynamicsConfig"):
        evaluate(EvaluateTokenizerConfig(kept / "dynamics", kept / "data", **QUICK))


def test_negative_seeds_are_named(tmp_path):
    for make in (lambda: EvaluateTokenizerConfig(tmp_path, tmp_path, seed=-1),
                 lambda: EvaluateDynamicsConfig(tmp_path, tmp_path, seed=-1),
                 lambda: DreamConfig(tmp_path, tmp_path / "x.mp4", seed=-1)):
        with pytest.raises(ConfigError, match="--seed -1: expected a whole number from 0"):
            make()
