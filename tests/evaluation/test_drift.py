"""Laws of long dreams."""

import numpy as np
import pytest
import torch
from squares import write_played

from wakedream.evaluation.dynamics.chunks import Reference
from wakedream.evaluation.dynamics.drift import drift, long_clip
from wakedream.evaluation.dynamics.rollouts import decoded_from
from wakedream.evaluation.dynamics.windows import dream_clips
from wakedream.evaluation.frechet import motion

CONTEXT, FRAMES = 6, 232


def colours(frames):
    """Few and quick features: a chunk's mean colour."""
    return frames.unflatten(1, (-1, 16)).mean((2, 4, 5)).flatten(0, 1)


@pytest.fixture(scope="module")
def clips(tokenizer, played):
    return dream_clips(tokenizer, played, 3, CONTEXT, 16)


def test_actions_go_on_with_the_next_episodes(played, clips):
    """Over the end of the last to the first; a frame into which nothing led is passed over."""
    clip = long_clip(played, clips, FRAMES)
    episodes = [(info.id, played.actions(info.id)[0]) for info in played.split("held_out")]
    stream = [(episode, t) for episode, actions in episodes for t in range(1, len(actions["move"]))]
    numbers = {episode: actions["push"][0, 1] for episode, actions in episodes}
    for row, (episode, start) in enumerate(clips.places):
        assert (clip.actions["move"][row, :CONTEXT] == clips.clip.actions["move"][row, :CONTEXT]).all()
        at = stream.index((episode, start + CONTEXT))
        for i in range(FRAMES):
            episode, t = stream[(at + i) % len(stream)]
            wanted = np.array([t / 100, numbers[episode]], np.float32)
            assert (clip.actions["push"][row, CONTEXT + i].numpy() == wanted).all()
    assert clip.has_action[:, CONTEXT:].all()
    assert torch.equal(clip.has_action[:, :CONTEXT], clips.clip.has_action[:, :CONTEXT])


def test_where_no_action_is_known_none_is_made_up(tokenizer, tmp_path):
    store = write_played(tmp_path / "unlabelled", [30] * 4, known=False)
    clips = dream_clips(tokenizer, store, 2, CONTEXT, 16)
    clip = long_clip(store, clips, 40)
    assert clip.has_action.shape == (2, CONTEXT + 40) and not clip.has_action.any()


def test_early_and_late_are_the_frames_they_say(tokenizer, played, clips):
    """A dream that stands still at the end, and moves between."""
    generator = torch.Generator().manual_seed(0)
    dreamed = torch.rand(3, FRAMES, 4, 8, generator=generator) * 2 - 1
    dreamed[:, -100:] = dreamed[:, -100:-99]
    asked = []

    def roll(clip, context):
        asked.append((clip.has_action.shape, context))
        return dreamed

    found = drift(tokenizer, played, clips, roll, FRAMES, Reference(played, 18, colours))
    rows = {row["of"]: row for row in found["rows"]}
    assert asked == [((3, CONTEXT + FRAMES), CONTEXT)]
    assert rows["late"]["motion"] == pytest.approx(0, abs=1e-6)
    latents = torch.cat([clips.clip.latents[:, :CONTEXT], dreamed], dim=1)
    wanted = motion(decoded_from(tokenizer, latents[:, :CONTEXT + 16 + 96], CONTEXT + 16))
    assert rows["early"]["motion"] == pytest.approx(wanted, rel=1e-4)
    assert found["chunks"] == 18
    assert found["ratio"] == rows["late"]["frechet"] / rows["early"]["frechet"]


def test_distances_are_of_equal_numbers_of_chunks(tokenizer, tmp_path):
    """There are 18 real ones to be had, and 24 dreamed ones."""
    store = write_played(tmp_path / "few", [24] * 4)
    clips = dream_clips(tokenizer, store, 4, CONTEXT, 16)
    counts = []

    class Counting(Reference):
        def distance(self, chunks, most=None):
            counts.append(min(len(chunks.features), most))
            return super().distance(chunks, most)

    dreamed = torch.rand(4, FRAMES, 4, 8, generator=torch.Generator().manual_seed(0))
    found = drift(tokenizer, store, clips, lambda clip, context: dreamed, FRAMES, Counting(store, 24, colours))
    assert found["chunks"] == 18 and counts == [18] * 4
    assert [row["of"] for row in found["rows"]] == ["early", "late", "tokenizer", "real"]
