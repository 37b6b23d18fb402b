"""Layers that are computed again: the same gradients, less kept."""

import copy

import pytest
import torch
from torch import Tensor, nn

from wakedream.training.distributed import Place, wrap

PLACE = Place(torch.device("cpu"))


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(8, 64), nn.Linear(64, 8)

    def forward(self, x: Tensor, times: int = 1) -> Tensor:
        return x + times * self.down(torch.tanh(self.up(x)))


class Objective(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.model = nn.ModuleList(Layer() for _ in range(3))

    @property
    def blocks(self) -> list[nn.Module]:
        return list(self.model)

    @property
    def compiled(self) -> list[nn.Module]:
        return self.blocks

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        for layer in self.model:
            x = layer(x, times=2)
        return {"square": x.square().mean()}


def trained(kit, **changes) -> tuple[list[Tensor], int]:
    """Gradients, and how many bytes the forward pass kept for the backward pass."""
    torch.manual_seed(0)
    objective, kept = Objective(), []
    forward = wrap(objective, kit.config(**changes), PLACE)
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.nbytes) or x, lambda x: x):
        loss = forward(torch.randn(32, 8))["square"]
        size = sum(kept)
    loss.backward()
    return [parameter.grad for parameter in objective.parameters()], size


def test_the_same_gradients_and_fewer_bytes(kit) -> None:
    (plain, all_kept), (again, inputs_kept) = trained(kit), trained(kit, recompute=True)
    for one, other in zip(plain, again, strict=True):
        assert torch.equal(one, other)
    assert inputs_kept < all_kept / 4


@pytest.mark.compile
def test_with_compiled_layers(kit) -> None:
    (plain, all_kept), (again, inputs_kept) = trained(kit, compile="on"), trained(kit, compile="on", recompute=True)
    for one, other in zip(plain, again, strict=True):
        torch.testing.assert_close(one, other)
    assert inputs_kept < all_kept / 4


def check_copies(kit, **changes) -> None:
    """Before and after a step, and a copy of a copy; each computes by weights of its own, and learns."""
    torch.manual_seed(0)
    objective, x = Objective(), torch.randn(32, 8)
    expected = objective(x)["square"].item()
    forward = wrap(objective, kit.config(**changes), PLACE)
    once = copy.deepcopy(objective)
    forward(x)["square"].backward()
    twice = copy.deepcopy(copy.deepcopy(objective))
    with torch.no_grad():
        for weight in objective.parameters():
            weight.zero_()
    for made in (once, twice):
        made.zero_grad()
        loss = made(x)["square"]
        assert loss.item() == pytest.approx(expected, rel=1e-5)
        loss.backward()
        assert all(weight.grad.abs().sum() > 0 for name, weight in made.named_parameters() if "down.weight" in name)
        assert all(layer.forward.__func__ is Layer.forward for layer in made.model)
    assert forward(x)["square"].item() == pytest.approx(x.square().mean().item(), rel=1e-5)


def test_a_deep_copy_uses_its_own_weights(kit) -> None:
    check_copies(kit, recompute=True)


@pytest.mark.compile
def test_a_deep_copy_of_compiled_layers_uses_its_own_weights(kit) -> None:
    check_copies(kit, compile="on")
    check_copies(kit, compile="on", recompute=True)


@pytest.mark.gpu
def test_on_the_gpu(kit) -> None:
    grads = []
    for changes in ({}, {"recompute": True}, {"recompute": True, "compile": "on"}):
        torch.manual_seed(0)
        objective = Objective().cuda()
        forward = wrap(objective, kit.config(device="cuda", **changes), Place(torch.device("cuda")))
        forward(torch.randn(32, 8, generator=torch.Generator().manual_seed(1)).cuda())["square"].backward()
        grads.append([parameter.grad for parameter in objective.parameters()])
    for other in grads[1:]:
        for ours, theirs in zip(grads[0], other, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)
