import json

import pytest

from wakedream.errors import RunError
from wakedream.training.config import TrainConfig
from wakedream.training.run_config import Identity, claim
from wakedream.training.summary import describe


def test_a_run_and_a_checkpoint_say_what_they_are(tmp_path, kit) -> None:
    (tmp_path / "run").mkdir()
    source = {"path": "data/x", "fingerprint": "f"}
    claim(tmp_path / "run", Identity("tokenizer", "debug", TrainConfig(), {"data": source}))
    assert "no checkpoint yet" in describe(tmp_path / "run")
    kit.run(tmp_path / "run")
    text = describe(tmp_path / "run")
    for part in ("stage: tokenizer", "preset: debug", "data: data/x", "step: 6", "parameters: 76",
                 "train: step 6, loss"):
        assert part in text
    checkpoint = tmp_path / "run" / "checkpoints" / "step_00000006"
    assert "step: 6" in describe(checkpoint)
    (checkpoint / "state.json").write_text("{")
    with pytest.raises(RunError, match="damaged"):
        describe(checkpoint)


def test_anything_else_is_not_a_run(tmp_path) -> None:
    assert describe(tmp_path) is None
    assert describe(tmp_path / "missing") is None
    (tmp_path / "config.json").write_text('{"format": 1, "kind": "tokenizer"}')
    assert describe(tmp_path) is None


def test_a_weights_folder_says_what_it_is(tmp_path) -> None:
    values = {"format": 1, "kind": "dynamics model", "model": {"dim": 64, "pattern": ["space", "time"]},
              "actions": {"components": [{"name": "move", "kind": "categorical", "size": 4}]}, "tokenizer": "f" * 64}
    (tmp_path / "config.json").write_text(json.dumps(values))
    (tmp_path / "model.safetensors").touch()
    text = describe(tmp_path)
    for part in ("weights: ", "of: dynamics model", "dim 64, pattern space-time", "action: move, categorical, 4",
                 f"tokenizer: {'f' * 12}\n"):
        assert part in text + "\n"
