"""Laws of progress lines: what is not known is not said."""

import math

from wakedream.progress import ProgressBar


def line(capsys, done, total=100, **words) -> str:
    with ProgressBar("training", total, "frames") as bar:
        bar.update(done, **words)
    return capsys.readouterr().err.strip()


def test_rate_and_rest_are_the_callers_where_it_gives_them(capsys):
    assert line(capsys, 50, pace=(20.0, 2.5), step=5) == "training: 50/100 frames  20.0 frames/s  step 5  2 s left"
    assert line(capsys, 50, pace=(0.0, 90.0), step=5) == "training: 50/100 frames  step 5  90 s left"
    assert line(capsys, 50, pace=(0.0, math.inf)) == "training: 50/100 frames"


def test_else_they_are_the_mean_since_the_beginning_and_nothing_before_there_is_one(capsys):
    assert line(capsys, 0) == "training: 0/100 frames"
    said = line(capsys, 50)
    assert "frames/s" in said and said.endswith("s left")
    assert "left" not in line(capsys, 50, total=None)


def test_the_last_line_is_printed_once(capsys, monkeypatch):
    monkeypatch.setattr("wakedream.progress.LINE_EVERY", 0.0)
    assert line(capsys, 100, pace=(20.0, 0.0)) == "training: 100/100 frames  20.0 frames/s  0 s left"
    assert line(capsys, 7).count("\n") == 0
