import json
import re

import numpy as np
import pytest
import torch

from wakedream.data.film import frame_rate
from wakedream.errors import CheckpointError, ConfigError, DataError, WeightsError
from wakedream.evaluation.config import EvaluateConfig, ReconstructConfig
from wakedream.evaluation.evaluate import evaluate
from wakedream.evaluation.page.plots import plot, training_curves
from wakedream.evaluation.page.report import fixed, trained, training
from wakedream.evaluation.tokenizer.comparison import reconstruct, reconstructed
from wakedream.progress import counted, lasted
from wakedream.tokenizer.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def run(tmp_path_factory, tokenizer):
    folder = tmp_path_factory.mktemp("runs") / "squares"
    tokenizer.save_pretrained(folder / "model")
    about = {"stage": "tokenizer", "config": {"loader": {"length": 8}}}
    (folder / "config.json").write_text(json.dumps(about))
    lines = [{"kind": "train", "step": s, "loss": 1 / s, "lr": 0.1, "elapsed": 6.0 * s} for s in range(1, 20)]
    lines += [{"kind": "held_out", "step": s, "psnr": 20.0 + s} for s in (10, 19)]
    text = "\n".join(map(json.dumps, lines)) + '\n{"kind": "train", "st'  # a killed run's last line
    (folder / "metrics.jsonl").write_text(text)
    return folder


@pytest.fixture(scope="module")
def page(run, store, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    evaluate(EvaluateConfig(run, store.path, out, device="cpu", clips=3, lpips=False))
    return out


def test_the_page_needs_nothing_but_itself(page):
    text = (page / "index.html").read_text(encoding="utf-8")
    assert "http" not in re.sub(r"base64,[\w+/=]+", "", text)
    sources = re.findall(r'(?:src|href)="([^"]{0,20})', text)
    assert sources
    assert sources.pop() == "metrics.json"  # beside it, for who wants more
    assert all(source.startswith(("data:", "#")) for source in sources)
    assert "<link" not in text
    assert "<script" not in text
    assert not re.search(r"url\((?!#)", text)
    assert "@import" not in text


def test_the_page_shows_the_numbers_of_the_json(page):
    text = (page / "index.html").read_text(encoding="utf-8")
    results = json.loads((page / "metrics.json").read_text())
    for row in results["reconstruction"]:
        assert f"{row['psnr']:.2f}" in text
    assert results["evaluated"]["length"] == 16  # twice the run's clips
    assert results["evaluated"]["training_length"] == 8
    assert results["device"] in text
    assert text.count("data:video/mp4") == 3
    assert len(re.findall(r"</video><figcaption>Clip \d of 3: episode \d+, from frame \d+ on<", text)) == 3
    assert text.count("data:image/png") == 5 + 4  # strips and one map per latent
    assert text.count("<svg") == 3 + 2  # PSNR, of what moves and SSIM by frame; held-out PSNR and loss
    assert (page / "reconstruction.png").stat().st_size > 0


def test_the_page_says_what_training_it_is_of(page):
    """Steps and minutes are the last that the run logged."""
    assert json.loads((page / "metrics.json").read_text())["training"] == {"steps": 19, "minutes": 1.9}
    text = (page / "index.html").read_text(encoding="utf-8")
    assert "19 steps, 1.9 minutes of training" in text
    assert "48 frames in 3 clips of 16, from episodes never trained on" in text


def test_learning_curves_leave_out_a_torn_line(run):
    assert list(training_curves(run / "metrics.jsonl")) == ["held-out psnr", "train loss"]
    assert training_curves(run / "absent.jsonl") == {}


def test_a_curve_has_its_baseline_beside_it_and_two_points(tmp_path):
    lines = [{"kind": "held_out", "step": s, "psnr_moving": 20.0 + s, "psnr_moving_mean_image": 12.0} for s in (1, 2)]
    lines += [{"kind": "train", "step": 1, "mse": 0.1}, {"kind": "train", "step": 1, "psnr_moving": 2.2}]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    (title, svg), = training_curves(tmp_path / "metrics.jsonl").items()
    assert title == "held-out psnr_moving"
    assert "mean image" in svg


def test_bad_input_is_named_and_nothing_is_written(run, store, tmp_path, monkeypatch):
    monkeypatch.setenv("WAKEDREAM_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "out"
    with pytest.raises(WeightsError, match="--no-lpips"):
        evaluate(EvaluateConfig(run, store.path, out))
    with pytest.raises(CheckpointError, match="does not exist"):
        evaluate(EvaluateConfig(tmp_path / "nowhere", store.path, out, lpips=False))
    with pytest.raises(DataError, match="no data set"):
        evaluate(EvaluateConfig(run, tmp_path / "nowhere", out, lpips=False))
    with pytest.raises(ConfigError, match="unknown device .nonsense"):
        evaluate(EvaluateConfig(run, store.path, out, device="nonsense", lpips=False))
    with pytest.raises(DataError, match="no window of 99 frames"):
        evaluate(EvaluateConfig(run, store.path, out, length=99, lpips=False))
    assert not out.exists() or not [path for path in out.iterdir() if path.name != ".lock"]


def test_a_page_is_not_written_where_it_reads(run, store, tmp_path):
    (tmp_path / "link").symlink_to(run)
    for out in (run, run / "model", tmp_path / "link", store.path, store.path / "shards"):
        before = sorted(out.iterdir())
        with pytest.raises(ConfigError, match="is what is read, which would be lost"):
            evaluate(EvaluateConfig(run, store.path, out, device="cpu", clips=1, lpips=False))
        assert sorted(out.iterdir()) == before


def test_a_page_is_not_written_into_what_is_another_s(run, store, tmp_path):
    """A run, a data set or weights, wherever in them; in its own, beside what it keeps."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text(json.dumps({"stage": "tokenizer", "config": {}}))
    Tokenizer.from_pretrained(run).save_pretrained(tmp_path / "weights")
    (tmp_path / "link").symlink_to(other)
    for out in (other, other / "evaluation", tmp_path / "link" / "e", store.path / "pages", store.path / "shards" / "e",
                run / "checkpoints" / "e", run / "model" / "e", tmp_path / "weights"):
        with pytest.raises(ConfigError, match=r"which it could spoil: choose another|is what is read"):
            evaluate(EvaluateConfig(run, store.path, out, device="cpu", clips=1, lpips=False))
        assert not (out / "index.html").exists()


def test_streamed_reconstruction_equals_the_whole(tokenizer, store):
    """Frame by frame with caches, each episode from a fresh start."""
    videos = [store.read(info.id).video for info in store.split("held_out")[:2]]
    frames = ((frame, t == 0) for video in videos for t, frame in enumerate(video))
    made = torch.cat([made for _, made in reconstructed(tokenizer, frames)])
    with torch.no_grad():
        clips = [torch.from_numpy(video).permute(0, 3, 1, 2)[None] for video in videos]
        whole = [tokenizer.reconstruct(clip)[0] for clip in clips]
    torch.testing.assert_close(made, torch.cat(whole), atol=1e-4, rtol=0)


def test_reconstruct_writes_a_video_of_a_data_set_and_of_a_file(run, store, tmp_path, capsys):
    from wakedream.data.video import read_video

    first, second = tmp_path / "first.mp4", tmp_path / "second.mp4"
    reconstruct(ReconstructConfig(run, store.path, first, scale=1, max_frames=9))
    assert "9 frames, PSNR" in capsys.readouterr().out
    reconstruct(ReconstructConfig(run, first, second, scale=2, fit="stretch"))
    frames = np.stack(list(read_video(second, (64, 2 * 100), "stretch")))
    assert frames.shape == (9, 64, 200, 3)


def test_reconstruct_reads_a_folder_of_images(run, tmp_path, capsys):
    from PIL import Image

    (tmp_path / "images").mkdir()
    for i in range(5):
        Image.new("RGB", (32, 32), (40 * i, 9, 9)).save(tmp_path / "images" / f"{i}.png")
    for fps in (None, 5.0):
        reconstruct(ReconstructConfig(run, tmp_path / "images", tmp_path / "made.mp4", fps=fps))
        assert "5 frames, PSNR" in capsys.readouterr().out
        assert frame_rate(tmp_path / "made.mp4") == (fps or 10)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="is not a data set"):
        reconstruct(ReconstructConfig(run, tmp_path / "empty", tmp_path / "other.mp4"))


def test_reconstruct_names_bad_input_and_writes_nothing(run, tmp_path):
    out = tmp_path / "out.mp4"
    (tmp_path / "text.mp4").write_text("not a video")
    with pytest.raises(DataError, match=r"text\.mp4"):
        reconstruct(ReconstructConfig(run, tmp_path / "text.mp4", out))
    with pytest.raises(DataError, match=r"absent\.mp4"):
        reconstruct(ReconstructConfig(run, tmp_path / "absent.mp4", out))
    with pytest.raises(ConfigError, match=r"ends in \.mp4"):
        reconstruct(ReconstructConfig(run, tmp_path / "text.mp4", tmp_path / "out.gif"))


def test_the_video_that_is_read_is_not_written_over_whatever_it_is_called(run, tmp_path):
    (tmp_path / "x.mp4").write_bytes(b"a film")
    (tmp_path / "link.mp4").symlink_to(tmp_path / "x.mp4")
    for source, out in (("x.mp4", "x.mp4"), ("x.mp4", "link.mp4"), ("link.mp4", "x.mp4")):
        with pytest.raises(ConfigError, match="is what is read"):
            reconstruct(ReconstructConfig(run, tmp_path / source, tmp_path / out))
    assert (tmp_path / "x.mp4").read_bytes() == b"a film"
    assert not list(tmp_path.glob("*out*"))


@pytest.mark.parametrize("values", [[11.8777880, 11.8777881, 11.8777880], [0.0, 0.0], [0.05, 0.05]])
@pytest.mark.parametrize("options", [{}, {"doubling": True}, {"log": True}])
def test_a_curve_of_one_value_has_plain_numbers_at_its_axis(values, options):
    svg = plot({"dream": ([float(2**i) for i in range(len(values))], values)}, "K", "PSNR, dB", **options)
    numbers = re.findall(r"<text[^>]*>([^<]+)</text>", svg)
    assert not [text for text in numbers if re.search("[+e]", text.replace("PSNR", "").replace("dream", ""))], numbers
    ticks = [float(text.replace("\u2212", "-")) for text in numbers if re.fullmatch("[\u2212\\d.]+", text)]
    assert max(ticks) - min(ticks) > 1e-6  # what differs by rounding alone is not drawn as if it mattered


def test_what_rounds_to_zero_has_no_sign_and_one_is_singular():
    assert [fixed(value, 2) for value in (-0.001, 0.0, -0.006, 1.0)] == ["0.00", "0.00", "-0.01", "1.00"]
    assert fixed(-0.0001, 2, "+") == "+0.00"
    assert [counted(n, "clips") for n in (0, 1, 2, 3000)] == ["0 clips", "1 clip", "2 clips", "3,000 clips"]
    assert [lasted(s) for s in (1.2, 42, 59.6, 90)] == ["1 second", "42 seconds", "1.0 minutes", "1.5 minutes"]
    assert trained({"training": {"preset": "debug", "steps": 1, "minutes": 0.02}}) == (
        "preset debug, 1 step, 1 second of training")


@pytest.mark.parametrize(("kinds", "said"), [(("train",), "Losses over"), (("held_out",), "Held-out numbers over"),
                                             (("train", "held_out"), "Held-out numbers and losses over")])
def test_training_curves_are_called_what_they_are(tmp_path, kinds, said):
    lines = [{"kind": kind, "step": step, "mse": 0.1 + step} for kind in kinds for step in (1, 2)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    assert f"<p>{said} training.</p>" in training(tmp_path / "metrics.jsonl")
