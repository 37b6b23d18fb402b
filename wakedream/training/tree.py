"""Nested training state as named tensors (for safetensors) and plain values (for JSON), and back."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from wakedream.training.shards import local

Packed = tuple[dict[str, Tensor], Any]


def pack(tree: Any) -> Packed:
    """Dicts (keys str or int), lists, tuples, None, bool, int, float, str and tensors.

    pack({"a": [tensor, 1]}) == ({"a.0": tensor}, {"a": [{"$tensor": "a.0"}, 1]})
    Tensors are not copied.
    """
    tensors: dict[str, Tensor] = {}

    def walk(value: Any, path: tuple[str, ...]) -> Any:
        if isinstance(value, Tensor):
            name = ".".join(path)
            tensors[name] = value.detach()
            return {"$tensor": name}
        if isinstance(value, dict):
            items = [(key, walk(item, (*path, str(key)))) for key, item in value.items()]
            named = all(isinstance(key, str) for key in value)
            return dict(items) if named else {"$items": [list(item) for item in items]}
        if isinstance(value, (list, tuple)):
            items = [walk(item, (*path, str(index))) for index, item in enumerate(value)]
            return items if isinstance(value, list) else {"$tuple": items}
        assert value is None or isinstance(value, (bool, int, float, str)), (".".join(path), type(value))
        return value

    return tensors, walk(tree, ())


def on_host(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies; of sharded tensors this process's rows."""
    return {name: local(tensor).detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}


def unpack(tensors: Mapping[str, Any], plain: Any) -> Any:
    """What `pack` was given, with what `tensors` holds under the tensors' names."""
    if isinstance(plain, list):
        return [unpack(tensors, item) for item in plain]
    if not isinstance(plain, dict):
        return plain
    if "$tensor" in plain:
        return tensors[plain["$tensor"]]
    if "$tuple" in plain:
        return tuple(unpack(tensors, item) for item in plain["$tuple"])
    if "$items" in plain:
        return {key: unpack(tensors, item) for key, item in plain["$items"]}
    return {key: unpack(tensors, item) for key, item in plain.items()}


def all_finite(tensors: Mapping[str, Tensor]) -> bool:
    floats = [tensor for tensor in tensors.values() if tensor.is_floating_point()]
    return bool(torch.stack([tensor.isfinite().all() for tensor in floats]).all()) if floats else True
