"""The whole pipeline on real Crafter play, through the command line, as a newcomer would type it."""

import json
import subprocess
import sys

import pytest

from wakedream.data.store import Store

pytestmark = pytest.mark.slow
pytest.importorskip("crafter")


def wakedream(*words: str) -> str:
    done = subprocess.run([sys.executable, "-m", "wakedream", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_record_train_resume_evaluate_reconstruct(tmp_path):
    data, run, page = (str(tmp_path / name) for name in ("data", "run", "page"))
    wakedream("record", "crafter", "--out", data, "--frames", "3000", "--max-episode-frames", "150")
    assert Store.open(data).frames() == 3000
    assert "checksums" in wakedream("inspect", data)
    train = ("train", "tokenizer", "debug", "--data", data, "--out", run, "--train.steps")
    wakedream(*train, "200")
    wakedream(*train, "400")  # goes on
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    trained = [line["step"] for line in lines if line["kind"] == "train"]
    assert trained == sorted(set(trained))
    assert trained[-1] == 400
    psnr = {line["step"]: line["psnr"] for line in lines if line["kind"] == "held_out"}
    assert psnr[400] > psnr[200]
    wakedream("evaluate", run, "--data", data, "--out", page, "--no-lpips")
    rows = json.loads((tmp_path / "page/metrics.json").read_text())["reconstruction"]
    own, mean_image = rows[0]["psnr"], rows[1]["psnr"]
    assert own > mean_image
    wakedream("reconstruct", run, data, "--out", str(tmp_path / "comparison.mp4"))
    assert (tmp_path / "comparison.mp4").stat().st_size > 10_000
