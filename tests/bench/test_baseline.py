"""The plain implementation is the same model: with the same weights it gives the same numbers."""

from dataclasses import replace

import pytest
import torch
from tokenizer.small import SMALL

from wakedream.bench import plain
from wakedream.bench.plain import plain_implementation
from wakedream.errors import ConfigError
from wakedream.tokenizer.tokenizer import Tokenizer

GEOMETRIES = {
    "space and time": SMALL,
    "dense": replace(SMALL, pattern=("dense",)),
    "shared": replace(SMALL, shared=True, num_registers=0),
    "grouped": replace(SMALL, kv_heads=2, padded=(32, 24)),
}


def pair(config):
    torch.manual_seed(0)
    ours, other = Tokenizer(config), plain_implementation().PlainTokenizer(config)
    for weight in ours.parameters():  # norms and scales away from 1, or their absence would not show
        torch.nn.init.normal_(weight, 0.5 if weight.ndim == 1 else 0.0, 0.2)
    other.load_state_dict(ours.state_dict())
    frames = torch.rand(2, 5, 3, config.height, config.width)
    return ours, other, frames, ours.patch_mask(2, 5, 0.5)


@pytest.mark.parametrize("name", GEOMETRIES)
def test_same_outputs_and_gradients(name: str) -> None:
    ours, other, frames, mask = pair(GEOMETRIES[name])
    outputs = [model(frames, mask) for model in (ours, other)]
    for mine, its in zip(*outputs, strict=True):
        torch.testing.assert_close(its, mine, atol=1e-4, rtol=1e-4)
    for prediction, _ in outputs:
        (prediction - frames).square().mean().backward()
    for (key, mine), its in zip(ours.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(its.grad, mine.grad, atol=1e-4, rtol=1e-3,
                                   msg=lambda text, key=key: f"{key}: {text}")


def test_a_wrong_mask_would_show() -> None:
    ours, other, frames, mask = pair(SMALL)
    other.encoder.config = replace(other.encoder.config, window=SMALL.window + 1)
    assert not torch.allclose(ours(frames, mask)[1], other(frames, mask)[1], atol=1e-3)


def test_without_the_repository_it_says_so(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(plain, "FILE", tmp_path / "benchmarks" / "baseline.py")
    with pytest.raises(ConfigError, match="clone the repository"):
        plain_implementation()
