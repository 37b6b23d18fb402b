"""Laws of the verdict: a model that is no better than what anybody can say is called so, by what moves."""

import json

from squares import write_store

from wakedream.evaluation.baseline import dream_verdict, reconstruction_verdict
from wakedream.evaluation.config import EvaluateConfig
from wakedream.evaluation.evaluate import evaluate


def test_a_good_picture_without_what_moves_in_it_does_not_pass():
    said = reconstruction_verdict({"psnr": 37.1, "psnr_moving": 11.5}, {"psnr": 36.0, "psnr_moving": 11.4})
    assert "on what moves 11.5 dB" in said and "11.4" in said and "--optim.lr" in said
    assert not reconstruction_verdict({"psnr": 30.0, "psnr_moving": 13.0}, {"psnr": 29.9, "psnr_moving": 11.4})


def test_where_nothing_moves_the_whole_picture_is_judged():
    assert "of the whole picture" in reconstruction_verdict({"psnr": 19.0}, {"psnr": 19.5})
    assert not reconstruction_verdict({"psnr": 30.0}, {"psnr": 19.5})


def test_a_veil_that_is_bright_enough_for_what_moves_does_not_pass():
    said = reconstruction_verdict({"psnr": 7.0, "psnr_moving": 8.0}, {"psnr": 15.0, "psnr_moving": 3.0})
    assert "of the whole picture 7.0 dB" in said


def test_a_dream_must_be_nearer_than_the_last_frame_and_the_mean_image():
    last, mean = {"psnr": 20.0, "psnr_moving": 10.0}, {"psnr": 18.0, "psnr_moving": 9.0}
    assert "the last frame that they were shown, repeated, has 10.0" in dream_verdict(
        {"psnr": 25.0, "psnr_moving": 9.9}, last, mean)
    assert "the mean image of the training data has 9.0" in dream_verdict(
        {"psnr": 25.0, "psnr_moving": 8.9}, {"psnr": 20.0, "psnr_moving": 4.0}, mean)
    for actions in (True, False):
        said = dream_verdict({"psnr": 25.0, "psnr_moving": 9.9}, last, mean, actions)
        assert ("whether the actions" in said) == actions and said.endswith(")")
    assert not dream_verdict({"psnr": 19.0, "psnr_moving": 10.1}, last, mean)


def test_an_untrained_tokenizer_is_called_so_on_terminal_and_page(tmp_path, tokenizer, capsys):
    tokenizer.save_pretrained(tmp_path / "weights")
    store = write_store(tmp_path / "data", [24] * 4)
    config = EvaluateConfig(tmp_path / "weights", store.path, tmp_path / "out", device="cpu", clips=3, lpips=False)
    evaluate(config)
    said = json.loads((tmp_path / "out" / "metrics.json").read_text())["verdict"]
    assert said.startswith("this tokenizer does not draw what matters")
    assert said in capsys.readouterr().out
    assert "does not draw what matters" in (tmp_path / "out" / "index.html").read_text()


def test_that_nothing_is_held_out_is_said_once(tmp_path, tokenizer, capsys):
    tokenizer.save_pretrained(tmp_path / "weights")
    store = write_store(tmp_path / "data", [24])
    evaluate(EvaluateConfig(tmp_path / "weights", store.path, tmp_path / "out", device="cpu", clips=3, lpips=False))
    assert capsys.readouterr().err.count("has no held-out episodes") == 1
