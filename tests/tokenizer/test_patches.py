import pytest
import torch
from einops import rearrange

from wakedream.tokenizer.masking import fixed_mask, uniform_mask
from wakedream.tokenizer.patches import grid_embedding, latent_grid, patchify, unpatchify


@pytest.mark.parametrize(("size", "height", "width"), [(8, 64, 64), (16, 64, 64), (16, 36, 50), (5, 7, 9)])
def test_patchify_inverts_for_any_size(size, height, width):
    frames = torch.rand(2, 3, 3, height, width, generator=torch.Generator().manual_seed(0))
    patches = patchify(frames, size)
    assert patches.shape == (2, 3, -(-height // size) * -(-width // size), size * size * 3)
    assert torch.equal(unpatchify(patches, size, (height, width)), frames)


def test_patches_stand_in_reading_order():
    frames = torch.zeros(1, 1, 1, 4, 6)
    frames[0, 0, 0, 2:4, 0:2] = 1
    assert patchify(frames, 2)[0, 0].sum(-1).tolist() == [0, 0, 0, 4, 0, 0]


def test_padding_is_black_at_the_bottom_and_right():
    patches = patchify(torch.ones(1, 1, 1, 3, 3), 2)
    assert rearrange(patches[0, 0], "n p -> (n p)").tolist() == [
        1,
        1,
        1,
        1,
        1,
        0,
        1,
        0,
        1,
        1,
        0,
        0,
        1,
        0,
        0,
        0,
    ]


def test_fixed_mask_hides_exactly_its_share_of_every_frame_and_differs_between_frames():
    mask = fixed_mask(8, 16, 64, 0.75, "cpu", torch.Generator().manual_seed(0))
    assert (mask.sum(-1) == 48).all()
    assert len({tuple(row.tolist()) for row in mask.flatten(0, 1)}) == 128


def test_uniform_mask_has_the_mean_and_the_spread_of_its_law():
    """Per frame p ~ U(0, 0.9), so the share masked has mean 0.45 and spread sqrt(0.9^2/12 + E[p(1-p)]/n)."""
    share = uniform_mask(200, 50, 64, 0.9, "cpu", torch.Generator().manual_seed(0)).float().mean(-1)
    assert abs(share.mean() - 0.45) < 0.01
    assert abs(share.std() - (0.81 / 12 + (0.45 - 0.27) / 64) ** 0.5) < 0.01
    assert (share < 0.05).float().mean() > 0.03  # nearly unmasked frames are trained too
    assert share.max() <= 1


def test_latents_start_at_the_patches_they_lie_on():
    assert latent_grid(16, (8, 8)) == (4, 4)
    assert latent_grid(512, (24, 40)) == (16, 32)
    patches, latents = grid_embedding(8, 8, 64, (8, 8)), grid_embedding(4, 4, 64, (8, 8))
    nearest = (latents @ patches.T).argmax(-1)
    rows, columns = nearest // 8, nearest % 8
    expected = torch.arange(4).repeat_interleave(4)
    assert ((rows - 2 * expected - 0.5).abs() <= 0.5).all()
    assert ((columns - 2 * torch.arange(4).repeat(4) - 0.5).abs() <= 0.5).all()
    assert abs(patches.square().mean().sqrt() - 1) < 0.05
