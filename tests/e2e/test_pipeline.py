"""The whole pipeline on real Crafter play, through the command line, as a newcomer would type it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from wakedream.data.loader import evaluation_clips
from wakedream.data.store import Store
from wakedream.world.model import World

pytestmark = pytest.mark.slow
pytest.importorskip("crafter")


def wakedream(*words: str) -> str:
    done = subprocess.run([sys.executable, "-m", "wakedream", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def lines(run: Path, kind: str) -> dict[int, dict[str, float]]:
    """metrics.jsonl's lines of a kind, by step; none is there twice."""
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [line["step"] for line in found if line["kind"] == kind]
    assert steps == sorted(set(steps))
    return {line["step"]: line for line in found if line["kind"] == kind}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder with data and a tokenizer, trained in two parts."""
    folder = tmp_path_factory.mktemp("pipeline")
    data, run = str(folder / "data"), str(folder / "tokenizer")
    wakedream("record", "crafter", "--out", data, "--frames", "3000", "--max-episode-frames", "150")
    train = ("train", "tokenizer", "debug", "--data", data, "--out", run, "--train.steps")
    wakedream(*train, "200")
    wakedream(*train, "400")  # goes on
    return folder


def test_data_and_tokenizer(made, tmp_path):
    data, run, page = str(made / "data"), str(made / "tokenizer"), str(tmp_path / "page")
    assert Store.open(data).frames() == 3000
    assert "checksums" in wakedream("inspect", data)
    assert max(lines(made / "tokenizer", "train")) == 400
    held_out = lines(made / "tokenizer", "held_out")
    assert held_out[400]["psnr"] > held_out[200]["psnr"]
    wakedream("evaluate", run, "--data", data, "--out", page, "--no-lpips")
    rows = json.loads((tmp_path / "page/metrics.json").read_text())["reconstruction"]
    own, mean_image = rows[0]["psnr"], rows[1]["psnr"]
    assert own > mean_image
    wakedream("reconstruct", run, data, "--out", str(tmp_path / "comparison.mp4"))
    assert (tmp_path / "comparison.mp4").stat().st_size > 10_000


def test_dynamics_model_and_dreams(made, tmp_path):
    run = made / "dynamics"
    train = ("train", "dynamics", "debug", "--data", str(made / "data"), "--tokenizer", str(made / "tokenizer"),
             "--out", str(run), "--train.evaluate-every", "100", "--objective.bootstrap-from", "150", "--train.steps")
    wakedream(*train, "200")
    wakedream(*train, "400")  # goes on
    trained, held_out = lines(run, "train"), lines(run, "held_out")
    assert max(trained) == 400
    assert [step for step in (140, 160, 400) if "bootstrap" in trained[step]] == [160, 400]
    assert trained[400]["flow"] < trained[20]["flow"] / 4
    assert set(held_out) == {100, 200, 300, 400}
    said = wakedream("inspect", str(run))
    assert all(part in said for part in ("stage: dynamics", "step: 400", "best weights: "))
    (latents,) = (made / "tokenizer" / "latents").iterdir()
    assert "all numbers finite" in wakedream("inspect", str(latents))
    wakedream("evaluate", str(run), "--data", str(made / "data"), "--out", str(tmp_path), "--no-lpips", "--clips", "8",
              "--chunks", "4", "--control", "1")
    results = json.loads((tmp_path / "metrics.json").read_text())
    psnr = {row["of"]: row["psnr"] for row in results["horizons"] if row["horizon"] == 1}
    assert psnr["dream"] > max(psnr["mean image"], psnr["tokenizer"] - 2)
    assert results["drift"] and results["control"]
    assert (tmp_path / "index.html").stat().st_size > 100_000
    wakedream("dream", str(run), "--data", str(made / "data"), "--out", str(tmp_path / "dream.mp4"), "--frames", "16")
    assert (tmp_path / "dream.mp4").stat().st_size > 10_000
    from_python(run, evaluation_clips(Store.open(made / "data"), "held_out", 2, 12))


def from_python(run, clip):
    """The first four frames after eight are nearer to what happened than a grey picture."""
    dream = World.from_pretrained(run).dream(clip.video[:, :8], {n: a[:, :8] for n, a in clip.actions.items()},
                                             clip.has_action[:, :8], sampling_steps=4)
    frames = torch.stack([dream.step({n: a[:, t] for n, a in clip.actions.items()}) for t in range(8, 12)], dim=1)
    truth = clip.video[:, 8:].float() / 255
    assert (frames - truth).square().mean() < (0.5 - truth).square().mean()


def test_an_agent_is_cloned_practises_and_is_judged(tmp_path):
    """All four stages on MiniGrid's DoorKey, each stopped and gone on with."""
    pytest.importorskip("minigrid")
    data, page = str(tmp_path / "data"), tmp_path / "page"
    wakedream("record", "doorkey", "--policy", "scripted:0.6,random:0.4", "--size", "48", "--frames", "4000",
              "--out", data)
    before = ""
    for stage, option, steps in (("tokenizer", "", 200), ("dynamics", "--tokenizer", 200), ("agent", "--world", 100),
                                 ("imagination", "--agent", 30)):
        preset = "auto" if stage in ("tokenizer", "dynamics") else "debug"
        run = str(tmp_path / stage)
        train = ("train", stage, preset, "--data", data, "--out", run, *((option, before) if option else ()),
                 "--train.compile", "off", "--train.steps")
        wakedream(*train, str(steps // 2))
        wakedream(*train, str(steps))
        assert max(lines(tmp_path / stage, "train")) == steps
        before = run
    cloned, seen = lines(tmp_path / "agent", "train"), lines(tmp_path / "imagination", "train")
    assert cloned[100]["policy_0"] < cloned[20]["policy_0"]
    assert seen[30]["kl"] > 0
    wakedream("evaluate", before, "--data", data, "--out", str(page), "--episodes", "20", "--policies", "random",
              "scripted", "--processes", "2")
    results = json.loads((page / "metrics.json").read_text())
    returns = {row["policy"]: row["measures"]["return"]["value"] for row in results["rows"]}
    assert returns["scripted"] > returns["random"]
    assert {"agent", "imagination"} < set(returns)
    assert (page / "index.html").stat().st_size > 100_000
