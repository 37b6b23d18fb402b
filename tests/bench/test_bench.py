"""Every benchmark, at toy size, gives a complete and finite report."""

import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from wakedream import cli
from wakedream.bench import machine
from wakedream.bench.bench import _check_paths, bench
from wakedream.bench.config import BENCHMARKS, BenchConfig
from wakedream.bench.loader import make_data
from wakedream.bench.result import Result
from wakedream.bench.synthetic import scene
from wakedream.bench.timing import Spread
from wakedream.data.store import Store
from wakedream.errors import ConfigError
from wakedream.tokenizer.tokenizer import Tokenizer

QUICK = ("--preset", "debug", "--seconds", "0.05", "--repeats", "3", "--warmup", "1", "--batch-sizes", "2",
         "--compile", "off", "--no-lpips", "--loader-frames", "600", "--video-frames", "4", "--workers", "1")


@pytest.fixture(autouse=True)
def small_machine(monkeypatch) -> None:
    monkeypatch.setattr(machine, "MATRIX", {"cpu": 128, "cuda": 4096})
    monkeypatch.setattr(machine, "COPY", {"cpu": 2**16, "cuda": 2**28})


def numbers(value) -> Iterator[float]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from numbers(item)
    elif isinstance(value, (int, float)):
        yield value


def run(tmp_path: Path, *words: str) -> dict:
    out = tmp_path / "bench.json"
    assert cli.main(["bench", *words, *QUICK, "--device", "cpu", "--out", str(out)]) == 0
    report = json.loads(out.read_text())
    assert all(math.isfinite(number) for number in numbers(report))
    assert {"name", "torch", "date", "matrix", "copy", "threads"} <= report["machine"].keys()
    for row in report["results"]:
        assert 0 < row["low_ms"] <= row["median_ms"] <= row["high_ms"]
        assert row["frames_per_second"] > 0 and row["settings"]
    return report


def test_tokenizer_train_beside_the_plain_implementation(tmp_path, capsys) -> None:
    rows = run(tmp_path, "tokenizer-train", "--baseline")["results"]
    assert [row["settings"]["optimizer"] for row in rows] == ["adamw", "adamw", "muon"]
    ours, plain, _ = rows
    assert plain["settings"]["implementation"] == "plain, eager"
    ratio = ours["faster_than_plain"]
    assert ratio["low"] <= ratio["median"] <= ratio["high"] and ratio["median"] > 0
    assert plain["faster_than_plain"] is None
    assert ours["flops"] == plain["flops"] and ours["attention_kernels"] and plain["attention_kernels"]
    assert all(row["matrix_share"] > 0 and row["compile_seconds"] is not None for row in (ours, rows[2]))
    printed = capsys.readouterr().out
    assert "### tokenizer-train" in printed and "times plain" in printed
    assert all(line.count("|") == 9 for line in printed.splitlines() if line.startswith("|"))


def test_tokenizer_stream(tmp_path) -> None:
    rows = run(tmp_path, "tokenizer-stream")["results"]
    assert [row["settings"]["direction"] for row in rows] == ["encode", "decode"]
    assert all(row["copy_share"] > 0 and row["matrix_share"] > 0 and row["attention_kernels"] for row in rows)


def test_dream(tmp_path) -> None:
    """In latents and in pictures; a second dream of the same world begins, too."""
    rows = run(tmp_path, "dream", "--sampling-steps", "2")["results"]
    assert [(row["settings"]["gives"], row["settings"]["dreams"], row["settings"]["K"]) for row in rows] == [
        ("latents", 2, 2), ("pictures", 2, 2)]
    assert all(row["copy_share"] > 0 and row["matrix_share"] > 0 and row["attention_kernels"] for row in rows)
    assert all(row["first_frame_ms"] > 0 and row["second_dream_ms"] > 0 for row in rows)
    latents, pictures = rows
    assert pictures["flops"] > latents["flops"] and pictures["bytes"] > latents["bytes"]


def test_dynamics_train_with_and_without_bootstrap_rows(tmp_path) -> None:
    rows = run(tmp_path, "dynamics-train")["results"]
    assert [row["settings"]["losses"] for row in rows] == ["flow", "flow + bootstrap"]
    assert rows[1]["flops"] > rows[0]["flops"] and all(row["matrix_share"] > 0 for row in rows)


def test_encode(tmp_path) -> None:
    row, = run(tmp_path, "encode")["results"]
    assert row["settings"]["videos"] == 2 and row["matrix_share"] > 0
    assert row["frames_per_second"] == pytest.approx(2 * 16 / row["median_ms"] * 1e3)


def test_presets_without_a_dynamics_model(tmp_path, capsys) -> None:
    assert cli.main(["bench", "dream", "--preset", "seed", "--device", "cpu"]) == 2
    assert "dream: the preset 'seed' has no dynamics model; known: debug, demo, crafter" in capsys.readouterr().err
    limits = machine.Machine(torch.device("cpu"), "m", {"bf16": 4e12, "float32": 1e12}, 2e9, "", "", "", 1, "")
    for name in ("dream", "dynamics-train"):  # among all benchmarks it is passed over, and said
        assert list(cli.find(BENCHMARKS[name])(BenchConfig(preset="seed"), limits)) == []
        assert f"no {name}: the preset 'seed' has no dynamics model" in capsys.readouterr().out


def test_loader_says_by_how_much_it_falls_short(tmp_path, capsys) -> None:
    rows = run(tmp_path, "loader", "--need", "1e9")["results"]
    assert [row["settings"]["from"] for row in rows] == [
        "unpacked whole", *["unpacked by threads"] * 3, "video 360x640 (H.264)", "video 360x640 (H.264)"]
    assert [row["settings"]["episodes"] for row in rows[2:4]] == [200, 50_000]
    assert all(any("falls short of 1,000,000,000 frames/s" in note for note in row["notes"]) for row in rows)
    assert rows[0]["clips_per_second"] * 16 == pytest.approx(rows[0]["frames_per_second"])
    assert rows[4]["frames_per_second_per_core"] > 0


def test_the_loader_is_held_against_the_training_of_the_same_run(tmp_path) -> None:
    report = run(tmp_path, "tokenizer-train", "loader", "--optimizers", "adamw")
    rate = report["results"][0]["frames_per_second"]
    assert any(f"{rate:,.0f} frames/s" in note for note in report["results"][1]["notes"])


def test_drawn_scenes_compress_like_a_game(tmp_path) -> None:
    store = Store.open(make_data(tmp_path / "data", 700))
    assert store.frames("train") == 700
    assert 0.03 < store.manifest.stored_bytes / store.manifest.raw_bytes < 0.25
    video = scene(20, 64, 64, seed=1)
    assert (video == scene(20, 64, 64, seed=1)).all() and (video[0] != video[19]).any()


@pytest.mark.parametrize(("words", "message"), [
    (["lodaer"], "unknown benchmark 'lodaer'; did you mean 'loader'?"),
    (["--preset", "crafte"], "unknown geometry 'crafte'; did you mean 'crafter'?"),
    (["--repeats", "0"], "repeats must be at least 1, got 0"),
    (["dream", "--sampling-steps", "0"], "sampling_steps must be at least 1, got 0"),
    (["dream", "--preset", "debug", "--sampling-steps", "3", "--device", "cpu"], "expected a power of two from 1 to 8"),
])
def test_wrong_words(capsys, words, message) -> None:
    assert cli.main(["bench", *words]) == 2
    assert message in capsys.readouterr().err


def test_every_name_has_something_to_do() -> None:
    assert all(callable(cli.find(place)) for place in BENCHMARKS.values())
    with pytest.raises(ConfigError):
        BenchConfig(names=("nothing",))
    BenchConfig(names=("dream", "tokenizer-stream"), precision="fp8")
    for names in ((), ("dream", "encode")):
        with pytest.raises(ConfigError, match="fp8 is for dream and tokenizer-stream"):
            BenchConfig(names=names, precision="fp8")


def test_shares_and_rates_by_hand() -> None:
    limits = machine.Machine(torch.device("cpu"), "m", {"bf16": 4e12, "float32": 1e12}, 2e9, "", "", "", 1, "")
    result = Result("b", {}, "step", Spread(0.5, 0.4, 0.6), frames=32, flops=1e11, bytes=1e8, precision="float32")
    assert result.frames_per_second == 64
    assert result.matrix_share(limits) == pytest.approx(0.2)
    assert result.copy_share(limits) == pytest.approx(0.1)


@pytest.mark.gpu
def test_attention_kernels_and_memory_on_the_gpu(tmp_path) -> None:
    out = tmp_path / "bench.json"
    words = ["--seconds", "0.2", "--batch-sizes", "2", "--optimizers", "adamw", "--no-lpips", "--out", str(out)]
    benchmarks = ("tokenizer-train", "tokenizer-stream", "dream")
    assert cli.main(["bench", *benchmarks, "--preset", "crafter", "--baseline", *words]) == 0
    rows = json.loads(out.read_text())["results"]
    names = {(row["benchmark"], row["settings"]["implementation"]): row for row in rows}
    assert ("tokenizer-train", "compiled graph") in names, sorted(names)
    assert ("dream", "graph") in names and ("dream", "compiled graph") in names, sorted(names)
    assert ("tokenizer-stream", "graph") in names and ("tokenizer-stream", "compiled graph") in names, sorted(names)
    for key, row in names.items():
        assert row["median_ms"] is not None, (key, row["notes"])
        assert row["memory_gib"] > 0, key
        assert row["attention_kernels"] != ["no kernel named after attention"], key
        assert 0 < row["matrix_share"] < 1, (key, row["matrix_share"])


@pytest.mark.parametrize(("words", "message"), [(("--out", "."), "is a folder"),
                                                (("--data", "nothing"), "no data set")])
def test_paths_are_looked_at_before_anything_is_measured(words, message, capsys):
    assert cli.main(["bench", "tokenizer-stream", *QUICK, "--device", "cpu", *words]) == 2
    told = capsys.readouterr()
    assert message in told.err and told.out == ""


def test_only_a_result_of_before_is_written_over(tmp_path):
    """Not a file of another kind, nor one in a data set, a run or weights."""
    Tokenizer.from_preset("debug").save_pretrained(tmp_path / "weights")
    make_data(tmp_path / "data", 60)
    (tmp_path / "notes.json").write_text('{"a": 1}')
    for out, said in ((tmp_path / "weights" / "config.json", "lies in the folder of weights"),
                      (tmp_path / "data" / "manifest.json", "lies in the data set"),
                      (tmp_path / "data" / "new.json", "lies in the data set"),
                      (tmp_path / "notes.json", "no result of")):
        before = out.exists() and out.read_text()
        with pytest.raises(ConfigError, match=said):
            bench(BenchConfig(names=("loader",), device="cpu", out=out))
        assert before == (out.exists() and out.read_text())
    result = tmp_path / "result.json"
    for content in ("", '{"format": 1, "machine": {}, "results": []}'):
        result.write_text(content)
        _check_paths(BenchConfig(out=result))
