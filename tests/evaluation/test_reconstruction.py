import dataclasses
import json

import pytest
import torch
from squares import write_store

from wakedream.data.loader import evaluation_clips
from wakedream.errors import ConfigError
from wakedream.evaluation.config import EvaluateTokenizerConfig
from wakedream.evaluation.metrics import psnr
from wakedream.evaluation.tokenizer.latents import latent_influence, latent_statistics
from wakedream.evaluation.tokenizer.pictures import Pictures, take_pictures
from wakedream.evaluation.tokenizer.reconstruction import _shares, evaluate_tokenizer
from wakedream.evaluation.tokenizer.report import sections
from wakedream.evaluation.tokenizer.run import TokenizerEvaluation
from wakedream.tokenizer.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def measured(tokenizer, store, lpips):
    return evaluate_tokenizer(tokenizer, store, clips=4, length=12, training_length=8, lpips=lpips,
                              ratios=(0.0, 0.5, 0.9))  # fmt: skip


def rows(results, of, name):
    return next(row for row in results["reconstruction"] if row["of"] == of and row["frames_of"] == name)


def test_headline_is_the_pooled_psnr_of_unmasked_held_out_clips(measured, tokenizer, store):
    results, _ = measured
    video = evaluation_clips(store, "held_out", 4, 12).video.float() / 255
    with torch.no_grad():
        error = (tokenizer.reconstruct(video) - video).square()
    inside = rows(results, "tokenizer", "within the training length")
    assert inside["psnr"] == pytest.approx(psnr(error[:, :8].mean()), abs=1e-3)
    assert inside["frames"] == 32
    assert rows(results, "tokenizer", "beyond the training length")["psnr"] == pytest.approx(
        psnr(error[:, 8:].mean()), abs=1e-3
    )
    assert results["by_mask_ratio"][0] == {"of": "tokenizer", "ratio": 0.0} | {
        key: value for key, value in inside.items() if key not in ("of", "frames_of")
    }


def test_by_day_counts_the_bright_frames_alone(measured, tokenizer, store):
    clip = evaluation_clips(store, "held_out", 4, 12)
    day = clip.extras["daylight"] > 0.5
    day[:, 8:] = False
    row = rows(measured[0], "tokenizer", "by day")
    assert 0 < row["frames"] == int(day.sum()) < 32
    video = clip.video.float() / 255
    with torch.no_grad():
        error = (tokenizer.reconstruct(video) - video).square()
    assert row["psnr"] == pytest.approx(psnr(error[day].mean()), abs=1e-3)


def test_no_row_says_what_another_said():
    """By day only where some frames are not; beyond the training length only where there are such frames."""
    def named(length, training_length, daylight):
        return list(_shares(2, length, training_length, daylight))

    for daylight in (None, torch.ones(2, 4)):
        assert named(4, None, daylight) == named(4, 4, daylight) == ["all", "first frame of a clip"]
    assert named(4, 2, torch.tensor([[1.0, 0, 1, 0]] * 2)) == [
        "within the training length", "by day", "first frame of a clip", "beyond the training length"]


def test_every_table_has_the_mean_image(measured, store):
    results, _ = measured
    held_out = evaluation_clips(store, "held_out", 4, 12).video.float() / 255
    train = [store.read(info.id).video for info in store.split("train")]
    mean = torch.cat([torch.from_numpy(video).float() for video in train]).mean(0).permute(2, 0, 1) / 255
    for name in {row["frames_of"] for row in results["reconstruction"]}:
        assert rows(results, "mean image", name)["frames"] == rows(results, "tokenizer", name)["frames"]
    found = rows(results, "mean image", "within the training length")["psnr"]
    assert found == pytest.approx(psnr((held_out[:, :8] - mean).square().mean()), abs=1e-2)
    assert results["by_mask_ratio"][-1]["of"] == "mean image"


def test_results_are_json_and_repeat(measured, tokenizer, store, lpips):
    results, _ = measured
    json.dumps(results, allow_nan=False)
    again, _ = evaluate_tokenizer(tokenizer, store, clips=4, length=12, training_length=8, lpips=lpips,
                                  ratios=(0.0, 0.5, 0.9))  # fmt: skip
    assert again == results


def test_influence_finds_the_latent_that_matters():
    """A stand-in whose picture is latent 1 in the left half and latent 2 in the right half."""

    class Halves(Tokenizer):
        def __init__(self):
            torch.nn.Module.__init__(self)

        def pictures(self, latents):
            value = latents[..., 1:3, 0].repeat_interleave(2, -1)  # (b t 4)
            return value[:, :, None, None, :].expand(-1, -1, 1, 4, 4)

    latents = torch.rand(2, 3, 4, 1)
    tokenizer = Halves()
    frames = tokenizer.pictures(latents)
    found, maps = latent_influence(tokenizer, frames, latents, latents.mean((0, 1)))
    assert found["latent"] == [0, 1, 2, 3]
    assert [drop > 0 for drop in found["psnr_drop"]] == [False, True, True, False]
    assert found["changed_pixels"] == [0, 0.5, 0.5, 0]
    for index in (1, 2):  # half of the picture is off by this latent's distance from its mean, or from zero
        values = latents[:, :, index, 0]
        for name, value in (("psnr_drop", values.mean()), ("psnr_drop_zeroed", 0.0)):
            expected = 100 - psnr((values - value).square().mean() / 2)
            assert found[name][index] == pytest.approx(expected, abs=1e-3)
    assert maps[1, :, :2].min() > 0
    assert maps[1, :, 2:].max() == 0


def test_latent_statistics():
    latents = torch.zeros(4, 8, 2, 3)
    latents[:, ::2, 0] = 1.0
    latents[:, 1::2, 0] = -1.0
    found = latent_statistics(latents)
    assert found["saturated"] == 0.5
    assert (found["dead_channels"], found["channels"]) == (3, 6)
    assert len(found["dead"]) == 3
    assert found["std_by_latent"] == pytest.approx([1.016, 0], abs=1e-3)


def test_pictures_of_the_same_moments(tokenizer, store):
    pictures = take_pictures(tokenizer, store, 6)
    assert list(pictures.strips) == ["truth", "reconstruction", "error x 4", "75% masked",
                                     "reconstruction, 75% masked"]  # fmt: skip
    assert {strip.shape for strip in pictures.strips.values()} == {(32, 8 * 34 - 2, 3)}
    clip = evaluation_clips(store, "held_out", 8, 6).video
    assert (pictures.strips["truth"][:, :32] == clip[0, -1].permute(1, 2, 0).numpy()).all()
    assert [video.shape for video in pictures.videos] == [(24, 32, 5 * 34 - 2, 3)] * 3


def test_a_tokenizer_that_was_trained_without_masking_is_shown_without(tmp_path, tokenizer, store):
    """As the run's own options say; with masking, and where nothing is known of the training, with it."""
    def shown(run):
        tokenizer.save_pretrained(run / "best")
        config = EvaluateTokenizerConfig(run, store.path, videos=False, clips=2, length=4)
        evaluation = TokenizerEvaluation(config, store, torch.device("cpu"), None)
        page = "".join(evaluation.sections(evaluation.measure(), run))
        return "masked" in page, "By share of masked patches" in page

    assert shown(tmp_path / "weights") == (True, True)
    for ratio, expected in ((0.0, (False, False)), (0.5, (True, True))):
        run = tmp_path / str(ratio)
        run.mkdir()
        config = {"objective": {"mask_ratio": ratio}}
        (run / "config.json").write_text(json.dumps({"stage": "tokenizer", "config": config}))
        assert shown(run) == expected


def test_where_no_episode_is_held_out_the_model_is_judged_by_what_it_learned_from_and_that_is_said(tokenizer, tmp_path,
                                                                                                   capsys):
    one = write_store(tmp_path / "one", [8], with_daylight=False, held_out=0.0)
    results, _ = evaluate_tokenizer(tokenizer, one, length=4)
    assert results["evaluated"]["split"] == "train"
    assert "no held-out episodes: the model is judged by episodes that it was trained on" in capsys.readouterr().err
    page = "".join(sections(results, Pictures()))
    assert "from episodes that it was trained on" in page


def test_another_frame_size_is_refused(tokenizer, tmp_path):
    small = write_store(tmp_path / "d", [8, 8], with_daylight=False, held_out=0.0)
    larger = Tokenizer(dataclasses.replace(tokenizer.config, height=64))
    with pytest.raises(ConfigError, match="frames of 32x32 with 3 channels, the tokenizer takes 64x32 with 3"):
        evaluate_tokenizer(larger, small, length=4)
