"""A tensor in a checkpoint's files, read when and as far as it is needed."""

from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from wakedream.training.shards import local, own_rows


class Files:
    """Each opened once."""

    def __init__(self) -> None:
        self._opened: dict[Path, Any] = {}

    def open(self, path: Path) -> Any:
        if path not in self._opened:
            self._opened[path] = safe_open(path, framework="pt")
        return self._opened[path]

    def names(self, path: Path) -> list[str]:
        return list(self.open(path).keys())


class Stored:
    """Rows `bounds[k]` to `bounds[k + 1]` are in `paths[k]`; without bounds all of it is in `paths[0]`."""

    def __init__(self, name: str, paths: list[Path], bounds: list[int] | None, files: Files):
        self.name, self.paths, self.bounds, self.files = name, paths, bounds, files

    @property
    def shape(self) -> tuple[int, ...]:
        first = self._slice(0).get_shape()
        return tuple(first if self.bounds is None else [self.bounds[-1], *first[1:]])

    def read(self, rows: slice = slice(None)) -> Tensor:
        """Those rows, on the host."""
        if self.bounds is None:
            return self._file(0).get_tensor(self.name) if rows == slice(None) else self._slice(0)[rows]
        start, stop, _ = rows.indices(self.bounds[-1])
        parts = [self._slice(0)[0:0]]
        for index, (first, end) in enumerate(zip(self.bounds, self.bounds[1:], strict=False)):
            low, high = max(start, first), min(stop, end)
            if low < high:
                parts.append(self._slice(index)[low - first : high - first])
        return torch.cat(parts)

    def _slice(self, index: int) -> Any:
        return self._file(index).get_slice(self.name)

    def _file(self, index: int) -> Any:
        return self.files.open(self.paths[index])


@torch.no_grad()
def fill(tensor: Tensor, stored: Stored) -> None:
    """Overwrite a tensor, sharded or not, with the rows of it that are here."""
    assert stored.shape == tuple(tensor.shape), (stored.name, stored.shape, tuple(tensor.shape))
    local(tensor).copy_(stored.read(own_rows(tensor)))


def read_all(tree: Any) -> Any:
    """A tree of plain values with every stored tensor read."""
    if isinstance(tree, Stored):
        return tree.read()
    if isinstance(tree, dict):
        return {key: read_all(value) for key, value in tree.items()}
    return type(tree)(map(read_all, tree)) if isinstance(tree, (list, tuple)) else tree
