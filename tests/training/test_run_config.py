import pytest

from wakedream.errors import ConfigError, RunError
from wakedream.training.run_config import check_same, claim, identity, read

CONFIG = {"model": {"dim": 64}, "train": {"steps": 10, "seed": 0}, "loader": {"workers": 1}}
DATA = {"path": "data/a", "fingerprint": "a" * 64}


def own(config=CONFIG, stage="tokenizer", data=DATA) -> dict:
    return identity(stage, "debug", config, data=data)


def test_same_config_resumes_and_some_fields_may_change(tmp_path, capsys) -> None:
    claim(tmp_path, own())
    longer = {"model": {"dim": 64}, "train": {"steps": 20, "seed": 0}, "loader": {"workers": 4}}
    claim(tmp_path, own())
    assert capsys.readouterr().err == ""
    claim(tmp_path, own(longer))
    assert "loader.workers was 1, now 4; train.steps was 10, now 20" in capsys.readouterr().err
    assert read(tmp_path)["config"]["train"]["steps"] == 20
    assert {"wakedream", "torch", "python"} <= read(tmp_path)["versions"].keys()


@pytest.mark.parametrize(("stage", "config", "data", "message"), [
    ("tokenizer", {**CONFIG, "model": {"dim": 32}}, DATA, r"model\.dim was 64, now 32"),
    ("tokenizer", {**CONFIG, "train": {"steps": 10, "seed": 1}}, DATA, r"train\.seed was 0, now 1"),
    ("tokenizer", CONFIG, {"path": "data/b", "fingerprint": "b" * 64}, "another data set.*data/a.*data/b"),
    ("dynamics", CONFIG, DATA, "stage 'tokenizer', not 'dynamics'"),
])
def test_another_run_is_refused(tmp_path, stage, config, data, message) -> None:
    claim(tmp_path, own())
    before = (tmp_path / "config.json").read_bytes()
    with pytest.raises(ConfigError, match=message):
        claim(tmp_path, own(config, stage, data))
    assert (tmp_path / "config.json").read_bytes() == before


def test_a_folder_with_other_things_is_refused(tmp_path) -> None:
    (tmp_path / "holiday.txt").write_text("x")
    with pytest.raises(RunError, match="not empty"):
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
