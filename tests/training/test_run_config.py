import dataclasses
import json
from dataclasses import dataclass, field

import pytest

from wakedream.config import added, from_dict, to_dict
from wakedream.errors import ConfigError, RunError
from wakedream.presets.dynamics import dynamics_preset
from wakedream.training.config import TrainConfig
from wakedream.training.run_config import Identity, check_same, claim, read


@dataclass(frozen=True)
class Model:
    dim: int = 64


@dataclass(frozen=True)
class Loader:
    workers: int = 1


@dataclass(frozen=True)
class Run:
    model: Model = Model()
    loader: Loader = Loader()
    train: TrainConfig = field(default_factory=lambda: TrainConfig(steps=10))


CONFIG = Run()
DATA = {"path": "data/a", "fingerprint": "a" * 64}


def own(config=CONFIG, stage="tokenizer", data=DATA, **sources) -> Identity:
    return Identity(stage, "debug", config, {"data": data, **sources})


def train(**changes) -> Run:
    return dataclasses.replace(CONFIG, train=dataclasses.replace(CONFIG.train, **changes))


def test_same_config_resumes_and_some_fields_may_change(tmp_path, capsys) -> None:
    claim(tmp_path, own())
    longer = dataclasses.replace(train(steps=20), loader=Loader(4))
    claim(tmp_path, own())
    assert capsys.readouterr().err == ""
    claim(tmp_path, own(longer))
    assert "loader.workers was 1, now 4; train.steps was 10, now 20" in capsys.readouterr().err
    assert read(tmp_path)["config"]["train"]["steps"] == 20
    assert {"wakedream", "torch", "python"} <= read(tmp_path)["versions"].keys()


def test_a_run_goes_on_by_the_same_command_where_its_preset_moved_the_first_bootstrap_step(tmp_path, capsys) -> None:
    now = dynamics_preset("crafter")
    before = dataclasses.replace(now, objective=dataclasses.replace(now.objective, bootstrap_from=5000))
    claim(tmp_path, own(before, "dynamics"))
    claim(tmp_path, own(now, "dynamics"))
    assert "objective.bootstrap_from was 5000, now 2000" in capsys.readouterr().err


@pytest.mark.parametrize(("stage", "config", "data", "message"), [
    ("tokenizer", dataclasses.replace(CONFIG, model=Model(32)), DATA, r"model\.dim was 64, now 32"),
    ("tokenizer", train(seed=1), DATA, r"train\.seed was 0, now 1"),
    ("tokenizer", CONFIG, {"path": "data/b", "fingerprint": "b" * 64}, "another data set.*data/a.*data/b"),
    ("dynamics", CONFIG, DATA, "stage 'tokenizer', not 'dynamics'"),
])
def test_another_run_is_refused(tmp_path, stage, config, data, message) -> None:
    claim(tmp_path, own())
    before = (tmp_path / "config.json").read_bytes()
    with pytest.raises(ConfigError, match=message):
        claim(tmp_path, own(config, stage, data))
    assert (tmp_path / "config.json").read_bytes() == before


def test_weights_to_begin_with_belong_to_a_run(tmp_path) -> None:
    """Whether there were any, and which; where they lie may change."""
    some, others, moved = ({"path": path, "fingerprint": mark} for path, mark in (("x", "c"), ("y", "d"), ("z", "c")))
    claim(tmp_path / "with", own(init=some))
    claim(tmp_path / "without", own())
    claim(tmp_path / "with", own(init=moved))
    for folder, sources in (("with", {}), ("with", {"init": others}), ("without", {"init": some})):
        with pytest.raises(ConfigError, match="another set of starting weights"):
            claim(tmp_path / folder, own(**sources))


def grown(default: int, was: int = 1) -> type:
    """`Run` as it is once its model has a field more."""
    bigger = dataclasses.make_dataclass("Model", [("rings", int, added(default, was=was))], bases=(Model,), frozen=True)
    return dataclasses.make_dataclass("Run", [("model", bigger, field(default=bigger()))], bases=(Run,), frozen=True)


def test_a_field_that_came_later_leaves_old_runs_what_they_are(tmp_path) -> None:
    """A file that lacks it means what was done before, whatever the default is by now; another value is another run."""
    claim(tmp_path, own())
    now, later = grown(default=1), grown(default=5)
    assert check_same(tmp_path, own(now())) == {}
    assert check_same(tmp_path, own(later(model=type(later().model)(rings=1)))) == {}
    for other in (now(model=type(now().model)(rings=2)), later()):
        with pytest.raises(ConfigError, match=rf"model\.rings was 1, now {other.model.rings}"):
            check_same(tmp_path, own(other))
    claim(tmp_path, own(now()))  # the file now says what it meant
    assert json.loads((tmp_path / "config.json").read_text())["config"]["model"]["rings"] == 1
    assert from_dict(later, to_dict(now())).model.rings == 1


def test_a_folder_with_other_things_is_refused(tmp_path) -> None:
    (tmp_path / "holiday.txt").write_text("x")
    with pytest.raises(RunError, match="not empty"):
        claim(tmp_path, own())


def test_a_folder_of_weights_is_no_run(tmp_path) -> None:
    (tmp_path / "config.json").write_text('{"format": 1, "kind": "tokenizer"}')
    with pytest.raises(RunError, match="holds no run"):
        claim(tmp_path, own())


@pytest.mark.parametrize("below", [".", "run"])
def test_a_file_in_the_way_is_named(tmp_path, below) -> None:
    (tmp_path / "taken").write_text("x")
    with pytest.raises(RunError, match="taken.* a file is in the way"):
        check_same(tmp_path / "taken" / below, own())


def test_damaged_config(tmp_path) -> None:
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(RunError, match="damaged"):
        claim(tmp_path, own())
