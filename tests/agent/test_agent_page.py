"""Laws of what `evaluate` shows of an agent beside its table: its dreams, and its checkpoints."""

import json

import numpy as np
import pytest

from wakedream.evaluation.agent.dreamed import HEIGHT, dreamed
from wakedream.evaluation.agent.run import checkpoints
from wakedream.evaluation.page.pictures import GAP
from wakedream.world.policy import Agent


def test_the_episode_on_the_left_the_dream_from_its_first_frame_on_the_right(agent, known):
    store, tokenizer, _, _ = known
    real = [store.read(info.id).video for info in sorted(store.episodes, key=lambda info: info.frames)[-2:]]
    real[1] = real[1][:3]
    films = dreamed(Agent(tokenizer, agent), real, "reward", seed=1)
    scale = HEIGHT // 16
    for film, video in zip(films, real, strict=True):
        assert film.shape == (len(real[0]), *films[0].shape[1:]) and film.shape[2] == 2 * 16 * scale + GAP
        left, right = film[:, :HEIGHT, :HEIGHT], film[:, :HEIGHT, HEIGHT + GAP:]
        assert (left[:len(video), ::scale, ::scale] == video).all()
        assert (left[len(video):, ::scale, ::scale] == video[-1]).all()
        first = tokenizer.reconstruct(video[:1].transpose(0, 3, 1, 2)[None])[0, 0]
        assert np.abs(right[0, ::scale, ::scale] / 255 - first.numpy(force=True).transpose(1, 2, 0)).max() < 0.01
    again, other = (dreamed(Agent(tokenizer, agent), real, "reward", seed=seed) for seed in (1, 2))
    assert all((one == two).all() for one, two in zip(films, again, strict=True))
    assert any((one != two).any() for one, two in zip(films, other, strict=True))


@pytest.mark.parametrize("stage", ["agent", "imagination"])
def test_checkpoints_after_imagination_alone_make_a_curve(tmp_path, stage):
    """And not copies that the user keeps under names of his own."""
    run = tmp_path / "run"
    for name in ("step_00000020", "step_00000040", "step_00000040_best"):
        (run / "checkpoints" / name / "model").mkdir(parents=True)
    (tmp_path / "cloned").mkdir()
    config = {"agent": str(tmp_path / "cloned")} if stage == "imagination" else {"world": str(tmp_path / "cloned")}
    (run / "config.json").write_text(json.dumps({"stage": stage, "config": config}))
    assert sorted(checkpoints(run)) == ([20, 40] if stage == "imagination" else [])
