"""`wakedream evaluate` of a dynamics run: one page, the same numbers, and what cannot be done is named."""

import dataclasses
import json
import re

import numpy as np
import pytest
import torch
from squares import SIZE, SPEC, small_tokenizer, small_world, write_played, write_store

from wakedream.errors import CheckpointError, ConfigError, DataError, WeightsError
from wakedream.evaluation.config import EvaluateDynamicsConfig
from wakedream.evaluation.dynamics import run as dynamics_run
from wakedream.evaluation.dynamics.branching import Branches
from wakedream.evaluation.evaluate import evaluate
from wakedream.perceptual.lpips import LPIPS

SMALL = {"device": "cpu", "clips": 3, "chunks": 4, "drift": 0, "context": 4, "length": 24, "compare": (1, 8),
         "sampling_steps": 2, "batch_size": 4}
SECTIONS = ["Dreams", "By horizon", "By sampling steps", "Long dreams", "One context under different actions",
            "Actions obeyed", "Loss with other actions", "Loss by step size and signal level", "From nothing",
            "Training"]


@pytest.fixture(scope="module")
def games(tmp_path_factory):
    """As if recorded from crafter."""
    return write_played(tmp_path_factory.mktemp("data") / "games", [26, 40, 23, 30, 40, 33], env="crafter")


@pytest.fixture(scope="module")
def whole(world_run, games, tmp_path_factory, lpips):
    """Everything measured, in a world that never was. (out, what was asked of the environment)"""
    out, asked = tmp_path_factory.mktemp("out"), {}

    def branches(name, count, context, **options):
        asked.update(options, name=name, count=count, context=context)
        return fake_branches(count, context)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LPIPS, "load", classmethod(lambda cls, net: lpips))
        patch.setattr(dynamics_run, "branches", branches)
        patch.setattr(dynamics_run, "commands", lambda spec, store: {n: one(i) for i, n in enumerate(("noop", "left"))})
        evaluate(EvaluateDynamicsConfig(world_run, games.path, out, **SMALL | {"drift": 216, "control": 3}))
    return out, asked


def one(move):
    return {"move": np.asarray(move), "push": np.zeros(2, np.float32)}


def fake_branches(n, context):
    rng = np.random.default_rng(0)
    held = {name: np.stack([one(i)[name] for i in range(2)]) for name in one(0)}
    actions = {"move": np.zeros((n, context), np.int64), "push": np.zeros((n, context, 2), np.float32)}
    return Branches("crafter", ("noop", "left"), rng.integers(0, 256, (n, context, SIZE, SIZE, 3), np.uint8), actions,
                    np.ones((n, context), bool), rng.integers(0, 256, (n, 2, 1, SIZE, SIZE, 3), np.uint8),
                    np.tile(np.arange(2), (n, 1)), held, ((0, ()),) * n)


def small(out, run, store, **changes):
    evaluate(EvaluateDynamicsConfig(run, store.path, out, lpips=False, **SMALL | changes))
    return json.loads((out / "metrics.json").read_text())


def test_the_page_has_all_sections_and_needs_nothing_else(whole):
    text = (whole[0] / "index.html").read_text(encoding="utf-8")
    assert re.findall("<h2>(.*?)</h2>", text) == SECTIONS
    assert "http" not in re.sub(r"base64,[\w+/=]+", "", text)
    assert "<link" not in text and "<script" not in text
    assert text.count("data:video/mp4") == 3 + 2 + 1  # beside the truth, under held actions, from nothing
    assert len(re.findall(r"</video><figcaption>Clip \d of [23]: episode \d+, from frame \d+ on<", text)) == 3 + 2
    assert text.count("</video><figcaption>") == text.count("<video")
    assert "only 2 of 5 that &#x27;move&#x27; has are shown; the other 1 component stays at 0" in text.lower()
    assert text.count("data:image/png") == 3  # strips from nothing
    assert "nan" not in re.sub(r"base64,[\w+/=]+|<svg.*?</svg>", "", text, flags=re.DOTALL).lower()


def test_the_page_shows_the_numbers_of_the_json(whole):
    text = (whole[0] / "index.html").read_text(encoding="utf-8")
    results = json.loads((whole[0] / "metrics.json").read_text(), parse_constant=pytest.fail)
    for row in results["horizons"]:
        assert f"<td>{row['psnr']:.2f}</td>" in text and f"<td>{row['lpips']:.4f}</td>" in text
    assert [row["sampling_steps"] for row in results["sampling"]] == [1, 8, None, None, None]
    for row in (*results["sampling"], *results["drift"]["rows"]):
        assert f"<td>{row['frechet']:.2f}</td>" in text
    for row in results["sampling"][:2]:
        assert f"<td>{row['frechet_start']:.2f}</td>" in text
    for row in results["actions"]["rows"]:
        assert f"{row['ratio']:.3f}" in text
    for share in ("obeyed", "obeyed_blind"):
        assert f"{results['control'][share]:.1%}" in text
    for said in (results["device"], results["date"], "K = 2", "3 clips of up to 24 frames", "FD-AlexNet"):
        assert said in text
    assert results["left_out"] == []


def test_the_environment_is_not_asked_for_worlds_of_the_data(whole, games):
    asked = whole[1]
    assert asked["name"] == "crafter" and asked["size"] == (SIZE, SIZE)
    assert (asked["count"], asked["context"], asked["avoid"]) == (3, 4, frozenset(range(100, 106)))


def test_obedience_does_not_hang_on_how_many_dream_side_by_side(world_run, games, tmp_path, monkeypatch):
    monkeypatch.setattr(dynamics_run, "branches", lambda name, count, context, **_: fake_branches(count, context))
    found = [small(tmp_path / str(size), world_run, games, control=5, batch_size=size, videos=False)["control"]
             for size in (2, 5)]
    assert found[0].pop("psnr") == pytest.approx(found[1].pop("psnr"), abs=1e-4)
    assert found[0] == found[1]


def test_the_same_seed_gives_the_same_numbers(world_run, played, tmp_path):
    def numbers(name, **changes):
        found = small(tmp_path / name, world_run, played, videos=False, **changes)
        return {key: found[key] for key in ("horizons", "sampling", "actions", "levels")}

    first = numbers("a")
    torch.rand(3)
    assert numbers("b") == first
    assert numbers("c", seed=1) != first


def test_what_is_left_out_is_said(world_run, played, tmp_path):
    found = small(tmp_path, world_run, played, length=None, videos=False)
    text = (tmp_path / "index.html").read_text()
    assert found["drift"] is None and found["control"] is None and found["sampling"][0]["frechet"] is None
    reached = max(row["horizon"] for row in found["horizons"])
    for said in ("Fréchet distances: --no-lpips", "long dreams: --drift 0",
                 "actions obeyed: the data was recorded from no environment",
                 f"horizons {', '.join(str(h) for h in (32, 64) if h > reached)}: the longest clip has"):
        assert any(said in what for what in found["left_out"]), said
        assert said in text


def test_without_the_network_nothing_is_said_of_its_distances(world_run, played, tmp_path):
    small(tmp_path, world_run, played, drift=216, videos=False)
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    for section in ("By sampling steps", "Long dreams"):
        (shown,) = re.findall(f"<h2>{section}</h2>(.*?)</section>", text, flags=re.DOTALL)
        assert "distance" not in shown and "Fréchet" not in shown, shown
    assert ">motion<" in text and "-0.00" not in text and "Losses over training." in text


def test_short_episodes_still_have_their_horizons(world_run, tmp_path):
    store = write_played(tmp_path / "short", [10] * 4)
    found = small(tmp_path / "out", world_run, store)
    assert {row["horizon"] for row in found["horizons"]} == {1, 2, 4}
    assert found["sampling"] is None


def test_without_actions(tokenizer, tmp_path):
    store = write_store(tmp_path / "silent", [30] * 4)
    small_world(tokenizer, store.spec).save_pretrained(tmp_path / "world")
    found = small(tmp_path / "out", tmp_path / "world", store)
    assert found["actions"] is None
    assert "One context under" not in (tmp_path / "out" / "index.html").read_text()


def test_bad_input_is_named_and_nothing_is_written(world, world_run, played, tmp_path, monkeypatch):
    monkeypatch.setenv("WAKEDREAM_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "out"

    def refused(kind, message, run=world_run, data=played, **changes):
        with pytest.raises(kind, match=message):
            evaluate(EvaluateDynamicsConfig(run, data.path, out, **{"lpips": False} | SMALL | changes))

    refused(WeightsError, "--no-lpips", lpips=True)
    refused(CheckpointError, "does not exist", run=tmp_path / "nowhere")
    refused(ConfigError, "is a tokenizer: expected a EvaluateTokenizerConfig, got",
            run=world_run / "tokenizer")
    refused(DataError, "longest held-out episode has", context=500, length=None)
    refused(ConfigError, "3 sampling steps: expected powers of two from 1 to 8", sampling_steps=3)
    refused(ConfigError, "16 sampling steps", compare=(1, 16))
    refused(ConfigError, "--length 4: expected more than the context of 4", length=4)
    other = dataclasses.replace(SPEC, components=SPEC.components[:1])
    refused(DataError, r"has the actions 'move' \(categorical, 5\), the model was trained with 'move'.*'push'",
            data=write_played(tmp_path / "other", [30] * 4, spec=other))
    larger = small_world(small_tokenizer(40))
    larger.save_pretrained(tmp_path / "larger")
    refused(ConfigError, "frames of 32x32 with 3 channels, the tokenizer takes 40x40 with 3", run=tmp_path / "larger")
    assert not out.exists()
    with pytest.raises(ConfigError, match="--drift is 100, expected 0 or at least 216"):
        EvaluateDynamicsConfig(world_run, played.path, drift=100)


@pytest.mark.gpu
def test_on_a_gpu(world_run, played, tmp_path, monkeypatch):
    """The noise of dreams is another; what hangs on none, and losses in as many draws, are the same."""
    monkeypatch.setattr(dynamics_run, "GPU", dynamics_run.CPU)
    here, there = (small(tmp_path / device, world_run, played, device=device, drift=216, videos=False)
                   for device in ("cpu", "cuda"))
    for one, other in zip(here["horizons"], there["horizons"], strict=True):
        if one["of"] != "dream":
            assert other["psnr"] == pytest.approx(one["psnr"], abs=0.02)
    assert len(there["drift"]["rows"]) == 4
    for one, other in zip(here["actions"]["rows"], there["actions"]["rows"], strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=0.01)
    for one, other in zip(here["levels"], there["levels"], strict=True):
        assert other["error"] == pytest.approx(one["error"], rel=0.02)
