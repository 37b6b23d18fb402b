"""Laws of a frozen copy: it is up to date as long as no number differs in the copy's precision."""

import pytest
import torch
from torch import nn

from wakedream.model.frozen import TOGETHER, frozen, refresh, up_to_date

KEPT = ("0.weight",)  # stays float32 whatever the precision


class Odd(nn.Module):
    """What a model may have beside matrices."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.nothing = nn.Parameter(torch.zeros(0, 4))
        self.small = nn.Parameter(torch.zeros(3, dtype=torch.bfloat16))
        self.register_buffer("flag", torch.zeros((), dtype=torch.bool))
        self.register_buffer("count", torch.zeros(2, dtype=torch.int64))


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), Odd(), *[nn.Linear(2, 2) for _ in range(TOGETHER)])


@pytest.mark.parametrize("precision", [None, "float32", "bf16"])
def test_a_change_of_one_number_anywhere_is_seen_until_the_copy_is_refreshed(precision):
    made = model()
    copied = frozen(made, precision, KEPT)
    assert up_to_date(copied, made)
    for name, tensor in [*made.named_parameters(), *made.named_buffers()]:
        if not tensor.numel():
            continue
        last = tensor.data.view(-1)[-1:]
        last.copy_(~last if tensor.dtype == torch.bool else last + 1)
        assert not up_to_date(copied, made), name
        refresh(copied, made)
        assert up_to_date(copied, made), name


def test_what_the_copy_cannot_tell_apart_is_no_change():
    made = model()
    made[2].weight.data.fill_(1)
    rough, exact = frozen(made, "bf16", KEPT), frozen(made, None)
    made[2].weight.data.mul_(1 + 2**-12)
    assert up_to_date(rough, made) and not up_to_date(exact, made)
    made[0].weight.data.mul_(1 + 2**-12)  # kept in float32 in the copy too
    assert not up_to_date(rough, made)


@pytest.mark.parametrize("number", [torch.nan, torch.inf])
def test_a_copy_with_a_number_that_is_not_finite_is_not_taken_again(number):
    made = model()
    made[5].bias.data[0] = number
    assert not up_to_date(frozen(made, None), made)
