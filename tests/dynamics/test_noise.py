"""Noise that hangs on seed, frame and draw alone."""

import pytest
import torch

from wakedream.dynamics.noise import ACTION, COMMIT, START, noise, row_seeds, uniform, wrapped


def drawn(seeds, frames, draw=START, shape=(4, 8)):
    return noise(torch.tensor(seeds), torch.tensor(frames), draw, shape)


def test_whatever_the_batch_and_the_order_the_bits_are_the_same():
    seeds, frames = row_seeds(3, 37), torch.arange(37 * 5).reshape(37, 5) * 11
    whole = noise(seeds, frames, COMMIT, (7, 9))
    for rows in (torch.arange(1), torch.tensor([36, 2, 2, 17]), torch.arange(10, 30)):
        for t in (slice(0, 1), slice(2, 5)):
            assert torch.equal(noise(seeds[rows], frames[rows, t], COMMIT, (7, 9)), whole[rows, t])


def test_each_seed_frame_and_draw_has_noise_of_its_own():
    found = [drawn([seed], [[frame]], draw).flatten() for seed in (0, 1, -1, 2**62) for frame in (0, 1, 2, 10**12)
             for draw in (START, COMMIT, ACTION)]
    table = torch.stack(found)
    assert len(torch.unique(table, dim=0)) == len(table)
    assert len(torch.unique(table)) > 0.999 * table.numel()
    many = noise(row_seeds(0, 200), torch.arange(4).expand(200, 4), START, (4, 8)).flatten(1)
    related = torch.corrcoef(many.flatten(1)).fill_diagonal_(0).abs()
    assert related.max() < 0.5 and related.mean() < 0.1  # of 128 numbers each; by chance 0.07


def test_it_is_normal():
    many = noise(row_seeds(1, 64), torch.arange(64).expand(64, 64), START, (8, 16)).flatten().double()
    assert len(many) == 2**19
    assert many.mean().abs() < 0.006 and many.std() == pytest.approx(1, abs=0.004)
    assert many.pow(3).mean().abs() < 0.02 and many.pow(4).mean() == pytest.approx(3, abs=0.05)
    expected = torch.distributions.Normal(0.0, 1.0).cdf(many.sort().values)
    assert (expected - torch.linspace(0, 1, len(many), dtype=torch.float64)).abs().max() < 0.003  # Kolmogorov-Smirnov
    flat = uniform(row_seeds(1, 64), torch.arange(64).expand(64, 64), ACTION, 16)
    assert flat.min() > 0 and flat.max() < 1 and flat.mean() == pytest.approx(0.5, abs=0.004)


def test_any_whole_number_is_a_seed():
    assert wrapped(2**64 + 5) == 5 and wrapped(-1) == -1 and wrapped(2**63) == -(2**63)
    assert len(set(torch.cat([row_seeds(seed, 3) for seed in (0, 1, -1, 2**64 - 2, 10**30)]).tolist())) == 15
    assert torch.equal(row_seeds(5, 2), row_seeds(5, 9)[:2])


@pytest.mark.gpu
def test_devices_agree():
    seeds, frames = row_seeds(0, 32), torch.arange(32 * 8).reshape(32, 8)
    here, there = (noise(seeds.to(to), frames.to(to), START, (16, 32)).cpu() for to in ("cpu", "cuda"))
    torch.testing.assert_close(here, there, atol=1e-6, rtol=0)
    assert (here == there).double().mean() > 0.9999
