"""Laws of the background: what is never at one place for long is not in it, and is what moves."""

import numpy as np
import torch

from wakedream.data.actions import ActionSpec
from wakedream.data.background import MOVES, background, mean_image, moving
from wakedream.data.episode import Episode
from wakedream.data.store import Store, StoreWriter


def ball_over_a_ground(path, frames=60):
    """A bright ball of 2x2 runs over a ground that stands still, in two episodes. The store, its ground, its video."""
    ground = np.random.RandomState(0).randint(30, 60, (16, 20, 3)).astype(np.uint8)
    video = np.repeat(ground[None], frames, 0)
    for t in range(frames):
        x = 2 * t % 18
        video[t, 5:7, x:x + 2] = 250
    with StoreWriter(path, ActionSpec(), frame_shape=ground.shape, held_out=0.5) as writer:
        for _ in range(2):
            writer.add(Episode.of_video(video.copy()))
    return Store.open(path), ground, video


def test_the_background_is_the_ground_and_what_moves_is_the_ball(tmp_path):
    store, ground, video = ball_over_a_ground(tmp_path / "data")
    behind = background(store)
    assert np.array_equal((behind * 255).round().byte().permute(1, 2, 0).numpy(), ground)
    frames = torch.from_numpy(video).permute(0, 3, 1, 2)[None].float() / 255
    found = moving(frames, behind)
    assert found.shape == (1, 60, 1, 16, 20)
    assert np.array_equal(found[0, :, 0].numpy(), (video != ground).any(-1))


def test_the_mean_image_is_the_mean_over_the_training_split(tmp_path):
    store, _, video = ball_over_a_ground(tmp_path / "data")
    expected = torch.from_numpy(video.astype(np.float32).mean(0)).permute(2, 0, 1) / 255
    torch.testing.assert_close(mean_image(store), expected, atol=1e-5, rtol=0)


def test_a_pixel_moves_only_beyond_the_threshold_in_some_channel():
    behind = torch.full((3, 1, 3), 100 / 255)
    frames = behind.clone()[None, None]
    frames[0, 0, 1, 0, 0] = (100 + MOVES) / 255
    frames[0, 0, 2, 0, 1] = (100 - MOVES - 1) / 255
    assert moving(frames, behind)[0, 0, 0, 0].tolist() == [False, True, False]
