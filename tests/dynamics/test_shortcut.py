import pytest
import torch

from wakedream.dynamics import shortcut
from wakedream.dynamics.sampler import sample

FINEST = 64
STEPS = [1, 2, 4, 8, 16, 32, 64]


def shaped(*size, seed=0):
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("steps", STEPS)
def test_with_an_oracle_every_number_of_steps_lands_on_the_truth(steps):
    truth, noise, seen = shaped(2, 1, 4, 3), shaped(2, 1, 4, 3, seed=1), []

    def oracle(noised):
        noisy, levels, indices = noised
        signal = shortcut.signal_of(levels, FINEST)
        torch.testing.assert_close(noisy, shortcut.noised(truth, noise, signal))  # never off the straight line
        seen.append((int(levels[0, 0]), int(indices[0, 0])))
        return truth

    assert torch.equal(sample(oracle, noise, shortcut.sampling_passes(steps, FINEST), FINEST), truth)
    assert seen == [(i * FINEST // steps, steps.bit_length() - 1) for i in range(steps)]


def test_a_prediction_that_is_wrong_by_e_ends_wrong_by_e():
    """Not by (1 - d)^K of the noise, as without the division by 1 - tau."""
    truth, noise = shaped(1, 1, 4, 3), shaped(1, 1, 4, 3, seed=1)
    made = sample(lambda *_: truth + 0.1, noise, shortcut.sampling_passes(4, FINEST), FINEST)
    torch.testing.assert_close(made, truth + 0.1)


@pytest.mark.parametrize("finest", [2, 8, 64])
def test_sampling_asks_only_for_what_training_draws(finest):
    """Frames at every row that a sampler uses, beside context at the commit row."""
    torch.manual_seed(0)
    levels, indices = shortcut.draw_bootstrap(500 * finest**2, 2, finest, torch.device("cpu"))
    rows = torch.unique(torch.cat([levels, indices], dim=1), dim=0)  # context's and target's level, then their steps
    drawn = {((a, c), (b, d)) for a, b, c, d in rows.tolist()}
    context = shortcut.commit_level(finest), shortcut.finest_index(finest)
    steps = [2**i for i in range(shortcut.finest_index(finest) + 1)]
    wanted = {(context, row) for k in steps for row in shortcut.sampling_passes(k, finest)} | {(context, context)}
    assert wanted <= drawn, wanted - drawn
    flow = set(shortcut.draw_flow(4000, 1, finest, torch.device("cpu"))[0].flatten().tolist())
    assert flow == set(range(finest))
    rows = {row for k in steps for row in shortcut.sampling_passes(k, finest, shortcut=False)}
    assert {index for _, index in rows} == {shortcut.finest_index(finest)}


def test_bootstrap_clips_are_half_fine_and_half_coarse_and_on_the_grid():
    torch.manual_seed(0)
    levels, indices = shortcut.draw_bootstrap(600, 64, FINEST, torch.device("cpu"))
    finest = shortcut.finest_index(FINEST)
    assert (indices == finest).double().mean() == pytest.approx(0.5, abs=0.01)
    for index in range(finest):
        chosen = levels[indices == index]
        assert len(chosen) / levels.numel() == pytest.approx(0.5 / finest, abs=0.01)
        assert set(chosen.tolist()) == set(range(0, FINEST, FINEST >> index))  # all of its grid, nothing else


def test_the_target_is_the_papers_loss_in_velocities():
    """(1 - tau)^2 |v - (b1 + b2) / 2|^2 with v = (x - z) / (1 - tau), as |x - target|^2 (eq. 7)."""
    prediction, noisy, first, second = (shaped(3, 2, 4, 3, seed=i) for i in range(4))
    signal = torch.tensor([[0.0, 0.5], [0.25, 0.75], [0.5, 0.0]])
    step = torch.tensor([[1, 0.5], [0.25, 0.25], [0.5, 1]])
    wide, half = signal[..., None, None], (step / 2)[..., None, None]
    b1 = (first - noisy) / (1 - wide)
    halfway = noisy + b1 * half
    b2 = (second - halfway) / (1 - wide - half)
    paper = (1 - wide) ** 2 * ((prediction - noisy) / (1 - wide) - (b1 + b2) / 2) ** 2
    target = shortcut.bootstrap_target(first, second, noisy, halfway, signal, step)
    torch.testing.assert_close((prediction - target) ** 2, paper)


def test_one_step_to_the_target_lands_where_two_halves_do():
    noisy, first, second = (shaped(1, 1, 4, 3, seed=i) for i in range(3))
    signal, step = torch.tensor([[0.25]]), torch.tensor([[0.5]])
    halfway = shortcut.advance(first, noisy, signal, step / 2)
    end = shortcut.advance(second, halfway, signal + step / 2, step / 2)
    target = shortcut.bootstrap_target(first, second, noisy, halfway, signal, step)
    torch.testing.assert_close(shortcut.advance(target, noisy, signal, step), end)


def test_the_commit_row_is_a_level_that_training_draws():
    assert [shortcut.commit_level(finest) for finest in (2, 4, 8, 64)] == [1, 3, 7, 58]
    assert shortcut.ramp(torch.tensor([[0.0, 1.0]]))[0].tolist() == pytest.approx([0.1, 1.0])
