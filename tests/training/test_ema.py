import torch

from wakedream.training.ema import Ema


def test_follows_its_law_with_warm_up(kit) -> None:
    torch.manual_seed(0)
    model = kit.Model()
    ema = Ema(model, 0.5)
    expected = model.first.weight.detach().clone()
    for step in range(12):
        with torch.no_grad():
            model.first.weight.normal_()
            model.calls += 1
        ema.prepare(step)
        ema.update(model)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * model.first.weight.detach()
    assert torch.allclose(ema.model.first.weight, expected, atol=1e-6)
    assert ema.model.calls == 12
    assert not ema.model.training
    assert not any(parameter.requires_grad for parameter in ema.model.parameters())


def test_frozen_weights_are_the_models_own(kit) -> None:
    """They are neither copied nor averaged nor kept in its state."""
    model = kit.Model()
    model.second.requires_grad_(False)
    ema = Ema(model, 0.5)
    assert ema.model.second.weight is model.second.weight
    assert ema.model.first.weight is not model.first.weight
    assert ema.state_dict().keys() == {"first.weight", "first.bias"}
    before = model.second.weight.clone()
    with torch.no_grad():
        model.first.weight.add_(1)
    ema.prepare(0)
    ema.update(model)
    assert torch.equal(model.second.weight, before)
    assert not torch.equal(ema.model.first.weight, model.first.weight)
