"""The balance's law, against a plain loop in Python numbers."""

import math

import pytest
import torch

from wakedream.training.balance import LossBalance


def plain(history: list[float], floor: float = 1e-6) -> float:
    """Divisor after these values of a term, the last one being the current."""
    mean = 0.0
    for value in history:
        mean = 0.99 * mean + 0.01 * value**2
    return max(math.sqrt(mean / (1 - 0.99 ** len(history))), floor)


@pytest.mark.parametrize("floors", [{}, {"a": 1.0}])  # "a" is below it from the 14th step on
def test_equals_a_plain_loop(floors: dict[str, float]) -> None:
    balance, seen = LossBalance({"a": 1.0, "b": 0.2}, floors=floors), {"a": [], "b": []}
    for step in range(50):
        values = {"a": 3.0 / (step + 1), "b": 100.0 + step}
        if step % 3 == 1:
            del values["b"]  # an absent term leaves its mean as it is
        expected = 0.0
        for name, value in values.items():
            seen[name].append(value)
            expected += balance.weights[name] * value / plain(seen[name], floors.get(name, 1e-6))
        total = balance({name: torch.tensor(value) for name, value in values.items()})
        assert total.item() == pytest.approx(expected, rel=1e-4)
        assert balance.update()["loss"].item() == pytest.approx(expected, rel=1e-4)


def test_a_term_of_weight_0_is_only_logged() -> None:
    alone, beside = LossBalance({"a": 1.0}), LossBalance({"a": 1.0, "other": 0.0})
    for value in (3.0, 1.0, 2.0):
        loss, other = torch.tensor(value), torch.tensor(1000.0)
        assert beside({"a": loss, "other": other}) == alone({"a": loss})
        assert beside.update() == {**alone.update(), "other": 1000.0}
    assert beside.state_dict().keys() == {"a"}
    with pytest.raises(AssertionError, match="misspelt"):
        beside({"a": torch.tensor(1.0), "misspelt": torch.tensor(1.0)})


def test_divisor_has_no_gradient_and_a_floor() -> None:
    loss = torch.tensor(1e-12, requires_grad=True)
    LossBalance({"a": 2.0})({"a": loss}).backward()
    assert loss.grad.item() == pytest.approx(2.0 / 1e-6)


def test_batches_of_a_step_share_one_divisor_and_update_once() -> None:
    balance = LossBalance({"a": 1.0})
    losses = [torch.tensor(value, requires_grad=True) for value in (2.0, 6.0)]
    for loss in losses:
        balance({"a": loss}).backward()
    assert losses[0].grad == losses[1].grad == 1 / 2.0  # from the first batch
    assert balance.update()["a"] == 4.0
    assert balance({"a": torch.tensor(4.0)}).item() == pytest.approx(1.0)  # the running mean holds 4^2, once
    assert plain([4.0, 4.0]) == pytest.approx(4.0)


def test_the_mean_over_ranks_is_what_divides() -> None:
    balance = LossBalance({"a": 1.0}, mean_over_ranks=lambda values: values * 0 + 5.0)
    assert balance({"a": torch.tensor(10.0)}).item() == pytest.approx(2.0)
    assert balance.update()["a"] == 5.0


def test_values_that_are_not_finite_do_not_stay() -> None:
    balance = LossBalance({"a": 1.0})
    for value in (2.0, float("nan"), float("inf"), 2.0):
        total = balance({"a": torch.tensor(value)})
        balance.update()
    assert total.item() == pytest.approx(1.0)


def test_state_round_trip() -> None:
    first, second = LossBalance({"a": 1.0}), LossBalance({"a": 1.0})
    first({"a": torch.tensor(7.0)})
    first.update()
    second.load_state_dict(first.state_dict(), torch.device("cpu"))
    assert second({"a": torch.tensor(1.0)}) == first({"a": torch.tensor(1.0)})
