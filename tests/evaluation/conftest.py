"""A small data set and a small tokenizer that fits it; one with actions, and a small world that has learned nothing."""

import json

import pytest
import torch
from squares import small_tokenizer, small_world, write_played, write_store

from wakedream.data.store import Store
from wakedream.perceptual.lpips import LPIPS
from wakedream.perceptual.trunks import TRUNKS
from wakedream.tokenizer.tokenizer import Tokenizer
from wakedream.world.model import World


@pytest.fixture(scope="session")
def store(tmp_path_factory) -> Store:
    return write_store(tmp_path_factory.mktemp("data") / "squares", [24] * 6)


@pytest.fixture(scope="session")
def played(tmp_path_factory) -> Store:
    return write_played(tmp_path_factory.mktemp("data") / "played", [26, 40, 23, 30, 70, 40, 33, 24])


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return small_tokenizer()


@pytest.fixture(scope="session")
def world(tokenizer) -> World:
    return small_world(tokenizer)


@pytest.fixture(scope="session")
def world_run(tmp_path_factory, world):
    """As stage 2 leaves it: its tokenizer, its best weights, its metrics."""
    folder = tmp_path_factory.mktemp("runs") / "played"
    world.tokenizer.save_pretrained(folder / "tokenizer")
    world.dynamics.save_pretrained(folder / "best")
    (folder / "config.json").write_text(json.dumps({"stage": "dynamics", "config": {}}))
    lines = [{"kind": "train", "step": s, "flow": 1 / s, "elapsed": 6.0 * s} for s in range(1, 9)]
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return folder


@pytest.fixture(scope="session")
def lpips() -> LPIPS:
    """With random weights: the numbers mean nothing, the path is the real one."""
    generator = torch.Generator().manual_seed(0)
    shapes = TRUNKS["alex"].shapes().items()
    return LPIPS("alex", {name: torch.rand(shape, generator=generator) * 0.02 for name, shape in shapes})
