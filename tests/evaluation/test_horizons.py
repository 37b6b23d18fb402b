"""Laws of the clips that are dreamed on and of what is said about each horizon."""

import pytest
import torch
from squares import write_played, write_store

from wakedream.data.background import background, mean_image, moving
from wakedream.errors import DataError
from wakedream.evaluation.dynamics import rollouts
from wakedream.evaluation.dynamics.chunks import Reference
from wakedream.evaluation.dynamics.horizons import CEILING, DREAM, LAST, MEAN, horizon_table
from wakedream.evaluation.dynamics.rollouts import decoded_from, pictures_of, roll_out
from wakedream.evaluation.dynamics.sampling_steps import REAL, sampling_table
from wakedream.evaluation.dynamics.windows import check_world, dream_clips
from wakedream.evaluation.frechet import FrechetFeatures
from wakedream.evaluation.metrics import psnr

CONTEXT = 6
NUMBERS = ("psnr", "psnr_mean", "ssim", "lpips", "frames")


@pytest.fixture(scope="module")
def clips(tokenizer, played):
    return dream_clips(tokenizer, played, 6, CONTEXT, 64)


def oracle(clip, context, **_):
    """A dream of exactly what came."""
    return clip.latents[:, context:]


def by(table, of):
    return [row for row in table if row["of"] == of]


def test_an_oracle_reaches_the_ceiling_to_the_last_bit(tokenizer, played, clips, lpips):
    table = horizon_table(tokenizer, clips, oracle(clips.clip, CONTEXT), mean_image(played, 0), lpips)
    assert [row["horizon"] for row in by(table, DREAM)] == [1, 2, 4, 8, 16, 32, 64][: len(by(table, DREAM))]
    for dream, ceiling in zip(by(table, DREAM), by(table, CEILING), strict=True):
        assert [dream[name] for name in NUMBERS] == [ceiling[name] for name in NUMBERS]
    assert by(table, DREAM) != by(table, LAST)


def test_the_numbers_are_those_of_the_frames_at_that_distance(tokenizer, world, played, clips):
    dreamed = roll_out(world.dynamics, clips.clip, CONTEXT)
    mean = mean_image(played, 0)
    behind = background(played)
    table = horizon_table(tokenizer, clips, dreamed, mean, behind=behind)
    frames, made = clips.video.float() / 255, pictures_of(tokenizer, clips.clip, dreamed)
    whole = tokenizer.reconstruct(frames).detach()
    for row in table:
        at = CONTEXT + row["horizon"] - 1
        rows = clips.real[:, at]
        said = {DREAM: made[:, row["horizon"] - 1], CEILING: whole[:, at], LAST: frames[:, CONTEXT - 1],
                MEAN: mean.expand_as(frames[:, 0])}[row["of"]]
        assert row["frames"] == int(rows.sum())
        errors = (said - frames[:, at])[rows].square()
        moves = moving(frames[:, at:at + 1], behind)[rows].squeeze(1).expand_as(errors)
        assert row["psnr_moving"] == pytest.approx(psnr(errors[moves].mean()), abs=1e-3)
        errors = errors.mean((1, 2, 3))
        assert row["psnr"] == pytest.approx(psnr(errors.mean()), abs=1e-3)
        assert row["psnr_mean"] == pytest.approx(sum(map(psnr, errors)) / len(errors), abs=1e-3)


def test_beyond_an_episode_nothing_counts(tokenizer, played, clips, world):
    """Clips end with their episodes; what is dreamed after that changes no number."""
    assert clips.real.sum(1).unique().numel() > 1
    lengths = {info.id: info.frames for info in played.episodes}
    for real, (episode, start) in zip(clips.real, clips.places, strict=True):
        assert int(real.sum()) == min(len(real), lengths[episode] - start)
    assert not (clips.clip.has_action & ~clips.real).any()
    dreamed = roll_out(world.dynamics, clips.clip, CONTEXT)
    spoiled = dreamed.clone()
    spoiled[~clips.real[:, CONTEXT:]] = 1.0
    mean = mean_image(played, 0)
    assert horizon_table(tokenizer, clips, spoiled, mean) == horizon_table(tokenizer, clips, dreamed, mean)


def test_of_a_still_video_the_last_frame_is_the_truth(tokenizer, tmp_path):
    store = write_played(tmp_path / "still", [30] * 4, still=True)
    clips = dream_clips(tokenizer, store, 3, CONTEXT, 16)
    table = horizon_table(tokenizer, clips, oracle(clips.clip, CONTEXT), mean_image(store, 0))
    assert {row["psnr"] for row in by(table, LAST)} == {100.0}
    assert max(row["psnr"] for row in by(table, MEAN)) < 40


def test_clips_are_the_frames_and_actions_of_their_places(tokenizer, played, clips):
    for row, (episode, start) in enumerate(clips.places):
        frames = int(clips.real[row].sum())
        found = played.read(episode, start, start + frames)
        assert (clips.video[row, :frames] == torch.from_numpy(found.video).permute(0, 3, 1, 2)).all()
        assert (clips.clip.actions["move"][row, :frames] == torch.from_numpy(found.actions["move"])).all()
        assert (clips.clip.has_action[row, :frames] == torch.from_numpy(found.has_action)).all()
        assert (clips.video[row, frames:] == clips.video[row, frames - 1]).all()
    alone = tokenizer.encode(clips.video[:1]).detach()
    torch.testing.assert_close(clips.clip.latents[:1], alone, atol=1e-5, rtol=0)


def test_dreams_in_batches(world, clips):
    """Every row stands in its place, is told to the progress bar once, and dreams the same however many dream beside
    it: its noise hangs on its number alone. 4 leave a batch to be filled up, 3 do not."""
    whole, told = roll_out(world.dynamics, clips.clip, CONTEXT, seed=5), []
    assert whole.shape[:2] == (6, clips.real.shape[1] - CONTEXT)
    for batch_size in (3, 4):
        dreamed = roll_out(world.dynamics, clips.clip, CONTEXT, seed=5, batch_size=batch_size, advance=told.append)
        torch.testing.assert_close(dreamed, whole, atol=1e-4, rtol=1e-4)
    assert sum(told) == 2 * 6 * whole.shape[1]
    others = clips.clip.rows(torch.tensor([0, 1, 2, 3, 3, 2]))
    assert not torch.equal(roll_out(world.dynamics, others, CONTEXT, seed=5, batch_size=4)[4:], whole[4:])


def test_each_dream_has_noise_of_its_own(world, clips):
    """One clip twice is dreamed in two ways, and with another seed in others."""
    twice = clips.clip.rows(torch.tensor([0, 0]))
    first, again, other = (roll_out(world.dynamics, twice, CONTEXT, seed=seed) for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first[0], first[1]) and not torch.equal(first, other)


def test_decoding_in_pieces_is_decoding_the_whole(tokenizer, clips, monkeypatch):
    whole = tokenizer.decode(clips.clip.latents).detach()
    for piece in (5, 16, 500):
        monkeypatch.setattr(rollouts, "PIECE", piece)
        torch.testing.assert_close(decoded_from(tokenizer, clips.clip.latents, 9), whole[:, 9:], atol=1e-5, rtol=0)


def test_sampling_steps_side_by_side(tokenizer, world, played, lpips):
    """Every K is asked for; an oracle has the tokenizer's row; real chunks have no error of their own."""
    clips = dream_clips(tokenizer, played, 5, CONTEXT, 16)
    reference, asked, alone = Reference(played, 5, FrechetFeatures(lpips)), [], []

    def roll(clip, context, sampling_steps):
        if context == 0:
            alone.append(clip)
            return clips.clip.latents[:, :16] / sampling_steps
        asked.append(sampling_steps)
        return roll_out(world.dynamics, clip, context, sampling_steps=sampling_steps) if sampling_steps > 1 else \
            oracle(clip, context)

    table = sampling_table(tokenizer, clips, roll, [1, 2, 8], reference, lpips)
    assert asked == [1, 2, 8] == [row["sampling_steps"] for row in by(table, DREAM)]
    known, two, eight = by(table, DREAM)
    (ceiling,), (real,) = by(table, CEILING), by(table, REAL)
    names = ("psnr_8", "psnr_16", "lpips_8", "lpips_16", "frechet", "motion")
    assert [known[name] for name in names] == [ceiling[name] for name in names]
    assert two["psnr_16"] != eight["psnr_16"]
    again = reference.of_video(clips.video[:, CONTEXT:])
    assert real["frechet"] == reference.distance(again)
    assert reference.distance(reference.chunks) < 1e-6 * real["frechet"]
    for row, clip in zip(by(table, DREAM), alone, strict=True):
        started = reference.measure([tokenizer.decode(clips.clip.latents[:, :16] / row["sampling_steps"])])
        assert row["frechet_start"] == pytest.approx(reference.distance(started), rel=1e-3)
        assert clip.has_action[:, 1:].equal(clips.clip.has_action[:, CONTEXT + 1:]) and not clip.has_action[:, 0].any()
        assert all(values.equal(clips.clip.actions[name][:, CONTEXT:]) for name, values in clip.actions.items())
    assert clips.clip.has_action[:, CONTEXT].all()
    frames = decoded_from(tokenizer, clips.clip.latents, CONTEXT) - clips.video[:, CONTEXT:].float() / 255
    assert ceiling["psnr_16"] == pytest.approx(psnr(frames[:, 15].square().mean()), abs=1e-3)


def test_what_does_not_fit_is_named(tokenizer, world, played, tmp_path):
    with pytest.raises(DataError, match=r"shown 99 frames .* longest held-out episode has \d+"):
        dream_clips(tokenizer, played, 4, 99, 16)
    silent = write_store(tmp_path / "silent", [30] * 4)
    with pytest.raises(DataError, match=r"has the actions none, .* trained with 'move' \(categorical, 5\), 'push'"):
        check_world(world, silent)
