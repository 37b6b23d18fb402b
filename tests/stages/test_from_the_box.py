"""A tokenizer or a world that comes with the package: what is made of it lies elsewhere, and is found again."""

from pathlib import Path

import pytest
from agent.conftest import write_known
from stages.conftest import write_tokenizer
from stages.test_agent_stages import agent_run, imagination_run, world_run

from wakedream import runs
from wakedream.dynamics import encode
from wakedream.evaluation.evaluate import place_of
from wakedream.stages.agent import latents_of, train_agent
from wakedream.stages.dynamics import latents_in, train_dynamics
from wakedream.stages.imagination import train_imagination
from wakedream.tokenizer.tokenizer import Tokenizer


@pytest.fixture
def box(tmp_path, monkeypatch) -> Path:
    """With the tokenizer `little` in it; the working folder is empty."""
    monkeypatch.setattr(runs, "BOX", tmp_path / "box")
    monkeypatch.setenv("WAKEDREAM_CACHE", str(tmp_path / "cache"))
    write_tokenizer(tmp_path / "box" / "little" / "tokenizer")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "box"


def test_latents_of_a_boxed_tokenizer_lie_in_the_cache_for_every_stage(box, tmp_path, monkeypatch) -> None:
    store = write_known(tmp_path / "data")
    before = sorted(box.rglob("*"))
    run = world_run(Path("little"), steps=2)
    train_dynamics(run, tmp_path / "data", tmp_path / "world", "debug")
    mark = Tokenizer.from_pretrained("little").fingerprint()
    kept = tmp_path / "cache" / "latents" / f"little-{mark[:12]}" / store.fingerprint[:12]
    assert (kept / "latents.json").exists()
    monkeypatch.setattr(encode, "_encode", lambda *given: pytest.fail("the latents are there"))
    train_dynamics(run, tmp_path / "data", tmp_path / "second", "debug")  # the name still means the box
    train_agent(agent_run(tmp_path, steps=2), tmp_path / "data", tmp_path / "agent", "debug")
    train_imagination(imagination_run(tmp_path, steps=2), tmp_path / "data", tmp_path / "practised", "debug")
    assert list(Path().iterdir()) == [] and sorted(box.rglob("*")) == before
    assert not any((tmp_path / run / "tokenizer" / "latents").exists() for run in ("world", "agent", "practised"))


def test_another_version_of_the_tokenizer_has_other_latents_and_old_runs_keep_theirs(box, tmp_path) -> None:
    store, old = write_known(tmp_path / "data"), Tokenizer.from_pretrained("little")
    first = latents_in(Path("little"), store, old)
    assert first.parent.name.startswith("little-") and tmp_path / "cache" in first.parents
    new = Tokenizer.from_pretrained(write_tokenizer(box / "little" / "tokenizer", seed=1))
    assert latents_in(Path("little"), store, new).parent != first.parent
    for path in (Path("little"), box / "little", box / "little" / "tokenizer"):  # by its place, too
        assert latents_in(path, store, old) == first
    Path("little").mkdir()  # goes before the box
    assert latents_in(Path("little"), store, old) == Path("little") / "latents" / store.fingerprint[:12]


def test_what_is_made_of_a_boxed_world_is_not_kept_under_its_name(box, tmp_path) -> None:
    """Neither latents for its agent, nor the page of its evaluation."""
    store, own = write_known(tmp_path / "data"), Tokenizer.from_pretrained("little")
    kept = latents_of(Path("little"), store, own)
    assert kept == latents_in(Path("little"), store, own) and tmp_path / "cache" in kept.parents
    assert place_of(Path("little")) == place_of(box / "little" / "tokenizer") == Path("little-evaluation")
    assert runs.boxed(Path("litle")) is None and runs.boxed(box) is None and runs.boxed(tmp_path) is None
