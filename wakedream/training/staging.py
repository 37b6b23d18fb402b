"""What is to be written, copied to the host, where training no longer changes it.

The memory is kept for the next time: on two CPU cores fresh pages took 30 times as long as copying into these
(docs/log.md).
"""

import copy
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from wakedream.training.shards import local


class Staging:
    """Copies of tensors and of one model, good until the next are made."""

    def __init__(self) -> None:
        self._tensors: dict[str, Tensor] = {}
        self._model: nn.Module | None = None

    def tensors(self, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """By the same names, on the host; of sharded ones this process's rows."""
        sources = {name: local(tensor).detach() for name, tensor in given.items()}
        self._tensors = {name: _room(source, self._tensors.get(name)) for name, source in sources.items()}
        _copy(self._tensors.values(), sources.values())
        return self._tensors

    def model(self, given: nn.Module) -> nn.Module:
        """The model on the host, weights and buffers its own."""
        sources = [*given.parameters(), *given.buffers()]
        if self._model is None:
            room = {id(source): _twin(source) for source in sources}
            self._model = copy.deepcopy(given, room)  # type: ignore[arg-type]
        _copy([*self._model.parameters(), *self._model.buffers()], sources)
        return self._model


def _room(source: Tensor, kept: Tensor | None) -> Tensor:
    if kept is not None and (kept.shape, kept.dtype) == (source.shape, source.dtype):
        return kept
    return torch.empty_like(source, device="cpu", memory_format=torch.contiguous_format, pin_memory=source.is_cuda)


def _twin(source: Tensor) -> Tensor:
    room = _room(source.detach(), None)
    return nn.Parameter(room, source.requires_grad) if isinstance(source, nn.Parameter) else room


@torch.no_grad()
def _copy(into: Iterable[Tensor], sources: Iterable[Tensor]) -> None:
    gpus = set()
    for room, source in zip(into, sources, strict=True):
        room.copy_(source, non_blocking=True)
        gpus |= {source.device} if source.is_cuda else set()
    for gpu in gpus:
        torch.cuda.synchronize(gpu)
