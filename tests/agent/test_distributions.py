"""Two-hot numbers and choices equal what a plain loop says; nothing likely becomes impossible."""

import math

import pytest
import torch

from wakedream.agent.distributions import ActionCodec, ActionDistribution, TwoHot, symexp, symlog
from wakedream.data.actions import ActionComponent, ActionSpec

SPEC = ActionSpec((ActionComponent("move", "categorical", 3), ActionComponent("keys", "binary", 2),
                   ActionComponent("arm", "continuous", 2, (-1.0, 0.0), (1.0, 4.0))))


def test_two_hot_weights_give_the_number_back():
    twohot = TwoHot(41, 3.0)
    numbers = torch.tensor([-19.0, -1.0, -0.003, 0.0, 0.5, 1.0, 7.3, 19.0])
    for number in numbers:
        centres = twohot.centres
        above = min(i for i in range(1, 41) if centres[i] >= number or i == 40)
        low, high = float(centres[above - 1]), float(centres[above])
        weights = torch.zeros(41)
        weights[above] = (number - low) / (high - low)
        weights[above - 1] = 1 - weights[above]
        assert twohot.mean((weights + 1e-30).log()) == pytest.approx(float(number), abs=1e-4)
        logits = torch.randn(41, generator=torch.Generator().manual_seed(0))
        plain = -(weights * logits.log_softmax(0)).sum()
        torch.testing.assert_close(twohot.loss(logits, number), plain)


def test_even_weights_are_exactly_nothing_and_far_numbers_the_outermost_bin():
    twohot = TwoHot(255, 6.0)
    assert twohot.mean(torch.zeros(2, 255)).tolist() == [0.0, 0.0]
    assert float(twohot.centres[-1]) == pytest.approx(math.expm1(6.0), rel=1e-5)
    logits = torch.randn(255)
    torch.testing.assert_close(twohot.loss(logits, torch.tensor(1e6)), twohot.loss(logits, twohot.centres[-1]))
    x = torch.tensor([-50.0, -0.1, 0.0, 3.0])
    torch.testing.assert_close(symexp(symlog(x)), x)


def distribution(seed=0, rows=5):
    torch.manual_seed(seed)
    codec = ActionCodec(SPEC, 5)
    width = sum(part.width for part in codec.parts)
    return codec, ActionDistribution(codec, 8 * torch.randn(rows, width), 0.01)


def test_choices_are_mixed_with_the_uniform_one():
    """However sure the network is, each choice keeps a hundredth of an even share."""
    _, sure = distribution()
    for logs in sure.log_probs.values():
        torch.testing.assert_close(logs.exp().sum(-1), torch.ones(logs.shape[:-1]))
        assert logs.exp().min() >= 0.01 / logs.shape[-1] - 1e-7


def test_log_prob_kl_and_entropy_equal_plain_sums():
    codec, mine = distribution(0)
    _, other = distribution(1)
    actions = mine.sample(torch.rand(5, mine.groups, generator=torch.Generator().manual_seed(3)))
    assert {name: (value.dtype, tuple(value.shape)) for name, value in actions.items()} == {
        "move": (torch.int64, (5,)), "keys": (torch.float32, (5, 2)), "arm": (torch.float32, (5, 2))}
    for row in range(5):
        log_prob = kl = entropy = 0.0
        for part in codec.parts:
            for group in range(part.groups):
                mine_logs, other_logs = (d.log_probs[part.name][row, group] for d in (mine, other))
                log_prob += float(mine_logs[codec.numbers(part, actions[part.name])[row, group]])
                for choice in range(part.choices):
                    kl += math.exp(mine_logs[choice]) * float(mine_logs[choice] - other_logs[choice])
                    entropy -= math.exp(mine_logs[choice]) * float(mine_logs[choice])
        assert float(mine.log_prob(actions)[row]) == pytest.approx(log_prob, abs=1e-4)
        assert float(mine.kl(other)[row]) == pytest.approx(kl, abs=1e-4)
        assert float(mine.entropy()[row]) == pytest.approx(entropy, abs=1e-4)
    assert mine.kl(mine).abs().max() == 0


def test_samples_come_as_often_as_they_are_likely():
    codec, _ = distribution()
    width = sum(part.width for part in codec.parts)
    torch.manual_seed(0)
    even = ActionDistribution(codec, torch.randn(1, width).expand(20_000, width), 0.01)
    actions = even.sample(torch.rand(20_000, even.groups))
    for part in codec.parts:
        numbers = codec.numbers(part, actions[part.name])
        for group in range(part.groups):
            seen = numbers[:, group].bincount(minlength=part.choices) / 20_000
            torch.testing.assert_close(seen, even.log_probs[part.name][0, group].exp(), atol=0.015, rtol=0)
    assert (even.greedy()["move"] == even.log_probs["move"][:, 0].argmax(-1)).all()


def test_bins_of_a_continuous_action_reach_from_end_to_end_and_follow_what_was_played():
    codec = ActionCodec(SPEC, 5)
    part = codec.parts[2]
    assert codec.centres(part).tolist() == [[-1, -0.5, 0, 0.5, 1], [0, 1, 2, 3, 4]]
    assert codec.numbers(part, torch.tensor([[0.3, 3.6]])).tolist() == [[3, 4]]
    free = ActionCodec(ActionSpec((ActionComponent("arm", "continuous", 2, (0.0, None), (1.0, None)),)), 3)
    free.fit({"arm": torch.stack([torch.rand(101), torch.arange(101.0)], dim=1)})
    assert free.centres(free.parts[0]).tolist() == [[0, 0.5, 1], [0, 50, 100]]
