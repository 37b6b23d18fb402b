"""Lambda-returns and PMPO equal a plain loop; what comes after a likely end counts for little."""

import numpy as np
import pytest
import torch

from wakedream.agent.pmpo import pmpo
from wakedream.agent.returns import average_parts, average_value, lambda_returns, reached


def plain_returns(rewards, goes_on, values, gamma, lam):
    horizon = len(rewards)
    following, found = values[horizon], [0.0] * horizon
    for t in range(horizon - 1, -1, -1):
        following = rewards[t] + gamma * goes_on[t] * ((1 - lam) * values[t + 1] + lam * following)
        found[t] = following
    return found


def test_returns_equal_a_plain_loop():
    torch.manual_seed(0)
    rewards, goes_on, values = torch.randn(3, 7), torch.rand(3, 7), torch.randn(3, 8)
    found = lambda_returns(rewards, goes_on, values, 0.9, 0.8)
    for row in range(3):
        plain = plain_returns(rewards[row].tolist(), goes_on[row].tolist(), values[row].tolist(), 0.9, 0.8)
        assert found[row].tolist() == pytest.approx(plain, abs=1e-5)


def test_an_end_cuts_off_what_follows_and_a_time_limit_does_not():
    rewards, values = torch.tensor([[1.0, 0.0]]), torch.tensor([[5.0, 6.0, 7.0]])
    assert lambda_returns(rewards, torch.tensor([[0.0, 1.0]]), values, 0.5, 1.0).tolist() == [[1.0, 3.5]]
    assert lambda_returns(rewards, torch.ones(1, 2), values, 0.5, 1.0).tolist() == [[2.75, 3.5]]
    assert lambda_returns(rewards, torch.ones(1, 2), values, 0.5, 0.0).tolist() == [[4.0, 3.5]]


def test_how_likely_a_frame_is_reached():
    assert reached(torch.tensor([[1.0, 0.5, 0.0, 1.0]])).tolist() == [[1.0, 1.0, 0.5, 0.0, 0.0]]


def test_pmpo_equals_a_plain_loop():
    torch.manual_seed(1)
    log_prob, advantage, weight = -torch.rand(4, 6), torch.randn(4, 6), torch.rand(4, 6)
    good = bad = good_weight = bad_weight = 0.0
    for b in range(4):
        for t in range(6):
            w, value = float(weight[b, t]), float(log_prob[b, t])
            if advantage[b, t] >= 0:
                good, good_weight = good + w * value, good_weight + w
            else:
                bad, bad_weight = bad + w * value, bad_weight + w
    plain = 0.3 * bad / bad_weight - 0.7 * good / good_weight
    assert float(pmpo(log_prob, advantage, weight, 0.7)) == pytest.approx(plain, abs=1e-5)


def test_only_the_sign_counts_and_an_empty_set_drops_its_term():
    log_prob, weight = -torch.rand(2, 3), torch.ones(2, 3)
    advantage = torch.tensor([[1.0, -1.0, 2.0], [0.0, -3.0, 4.0]])
    assert pmpo(log_prob, advantage, weight, 0.5) == pmpo(log_prob, 100 * advantage, weight, 0.5)
    torch.testing.assert_close(pmpo(log_prob, advantage.abs(), weight, 0.5), -0.5 * log_prob.mean())
    assert torch.isfinite(pmpo(log_prob, advantage, torch.zeros(2, 3), 0.5))


def test_it_makes_good_actions_likelier_and_bad_ones_less():
    logits = torch.zeros(2, 1, 2, requires_grad=True)
    log_prob = logits.log_softmax(-1)[..., 0]
    pmpo(log_prob, torch.tensor([[1.0], [-1.0]]), torch.ones(2, 1), 0.5).backward()
    assert logits.grad[0, 0, 0] < 0 < logits.grad[1, 0, 0]

def test_the_average_value_is_that_of_a_loop():
    rng = np.random.default_rng(0)
    rewards, goes_on, gamma = rng.normal(size=(5, 7)), rng.uniform(0.8, 1, (5, 7)), 0.9
    sums, left = [], []
    for row in range(5):
        total, discount = 0.0, 1.0
        for t in range(7):
            total += discount * rewards[row, t]
            discount *= gamma * goes_on[row, t]
        sums.append(total)
        left.append(discount)
    parts = average_parts(torch.from_numpy(rewards), torch.from_numpy(goes_on), gamma)
    assert np.allclose(parts, [np.mean(sums), np.mean(left)])
    assert np.isclose(average_value(parts), np.mean(sums) / (1 - np.mean(left)))


def test_the_average_value_of_a_reward_without_an_end_is_that_of_all_time():
    ones = torch.ones(3, 16)
    assert torch.isclose(average_value(average_parts(ones, ones, 0.99)), torch.tensor(100.0))
