"""Whose a folder is: a saved world's, and not that of runs that only lie side by side."""

import json

import pytest

from wakedream.errors import ConfigError
from wakedream.owned import refuse_owned
from wakedream.tokenizer.tokenizer import Tokenizer


@pytest.fixture
def weights(tmp_path):
    Tokenizer.from_preset("debug").save_pretrained(tmp_path / "weights")
    return tmp_path / "weights"


def test_runs_named_like_parts_of_a_world_make_none(tmp_path):
    """As `make demo` has them."""
    for stage in ("tokenizer", "dynamics"):
        (tmp_path / "demo" / stage).mkdir(parents=True)
        (tmp_path / "demo" / stage / "config.json").write_text(json.dumps({"stage": stage, "config": {}}))
    refuse_owned(tmp_path / "demo" / "page")
    with pytest.raises(ConfigError, match="lies in the run"):
        refuse_owned(tmp_path / "demo" / "dynamics" / "page")


@pytest.mark.parametrize("other", ["dynamics", "agent"])
def test_a_world_owns_what_lies_in_it(tmp_path, weights, other):
    world = tmp_path / "world"
    for part in ("tokenizer", other):
        (world / part).parent.mkdir(exist_ok=True)
        (world / part).symlink_to(weights, target_is_directory=True)
    with pytest.raises(ConfigError, match="lies in the world"):
        refuse_owned(world / "page")
