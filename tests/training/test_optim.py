import pytest
import torch
from torch import nn

from wakedream.training import optim
from wakedream.training.config import OptimConfig
from wakedream.training.optim import Muon, build_optimizers, highest_rate, orthogonalise, set_rates


def model() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Module()
    net.layers = nn.ModuleList(
        nn.ModuleDict(
            {"a": nn.Linear(8, 16, bias=False), "b": nn.Linear(16, 8, bias=False), "c": nn.Linear(8, 8)}
        )
        for _ in range(3)
    )
    outer = nn.Module()
    outer.body, outer.head = net, nn.Linear(8, 4, bias=False)
    return outer


def test_batched_muon_is_torch_muon():
    mine = [
        nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(index)))
        for index, shape in enumerate([(16, 8), (8, 16), (8, 8), (16, 8)])
    ]
    theirs = [nn.Parameter(parameter.detach().clone()) for parameter in mine]
    ours = Muon(mine, lr=0.02, momentum=0.95, weight_decay=0.1)
    reference = torch.optim.Muon(theirs, lr=0.02, momentum=0.95, weight_decay=0.1)
    generator = torch.Generator().manual_seed(9)
    for _ in range(4):
        for a, b in zip(mine, theirs, strict=True):
            a.grad = torch.randn(a.shape, generator=generator)
            b.grad = a.grad.clone()
        ours.step()
        reference.step()
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=2e-3, rtol=0)  # both orthogonalise in bf16


def test_orthogonalise_keeps_directions_and_evens_out_singular_values():
    matrix = torch.randn(1, 12, 20, generator=torch.Generator().manual_seed(0))
    left, values, right = torch.linalg.svd(orthogonalise(matrix)[0].float(), full_matrices=False)
    assert values.min() > 0.5
    assert values.max() < 1.5
    u, _, v = torch.linalg.svd(matrix[0], full_matrices=False)
    assert (left @ right * (u @ v)).sum() / 12 > 0.9


def test_every_parameter_is_in_one_optimizer_and_muon_has_the_layers_matrices():
    net = model()
    adamw, muon = build_optimizers(net, OptimConfig())
    held = [id(p) for optimizer in (adamw, muon) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in net.parameters())
    assert {id(p) for p in muon.param_groups[0]["params"]} == {
        id(p) for name, p in net.named_parameters() if ".layers." in name and p.ndim == 2
    }
    assert all(
        group["base_lr"] == group["lr"] for optimizer in (adamw, muon) for group in optimizer.param_groups
    )
    assert len(build_optimizers(net, OptimConfig(name="adamw"))) == 1


def test_muon_on_linear_takes_the_head_too_but_no_table():
    net = model()
    net.table = nn.Parameter(torch.zeros(4, 8))
    _, muon = build_optimizers(net, OptimConfig(muon_on="linear"))
    held = {id(p) for p in muon.param_groups[0]["params"]}
    assert id(net.head.weight) in held
    assert id(net.table) not in held


def test_rates_are_tensors_changed_in_place_and_count_as_the_numbers_they_hold():
    nets = [model(), model()]
    made = [build_optimizers(net, OptimConfig(weight_decay=0.1)) for net in nets]
    held = None
    for step in range(3):
        for net, optimizers in zip(nets, made, strict=True):
            for index, parameter in enumerate(net.parameters()):
                generator = torch.Generator().manual_seed(10 * step + index)
                parameter.grad = torch.randn(parameter.shape, generator=generator)
            if optimizers is made[0]:
                set_rates(optimizers, 0.5 + step)
            else:
                for optimizer in optimizers:
                    for group in optimizer.param_groups:
                        group["lr"] = group["base_lr"] * (0.5 + step)
            for optimizer in optimizers:
                optimizer.step()
        rates = [group["lr"] for optimizer in made[0] for group in optimizer.param_groups]
        assert held is None or all(now is before for now, before in zip(rates, held, strict=True))
        held = rates
    assert highest_rate(made[0]) == 0.05
    for one, other in zip(*(net.parameters() for net in nets), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(("has", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_matrices_are_multiplied_in_bf16_only_where_that_is_fast(monkeypatch, has, dtype):
    """A CPU without bf16 instructions takes seven times as long in it (docs/log.md)."""
    seen = []
    monkeypatch.setattr(optim, "lowers", lambda precision, device: has)
    monkeypatch.setattr(optim, "orthogonalise", lambda matrices: seen.append(matrices.dtype) or matrices)
    weight = torch.nn.Parameter(torch.randn(4, 4))
    weight.grad = torch.randn(4, 4)
    Muon([weight], lr=0.1).step()
    assert seen == [dtype]
