"""What is done again for every frame, recorded as a CUDA graph: one launch instead of hundreds."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from wakedream.runs import deferred_signals

WARM_UP = 3  # runs before recording: compilation, kernel choice, tables made once


class Recorded:
    """A function of tensors on one GPU, recorded at its first call and replayed from then on.

    function   takes tensors, always of the same shapes and types, and returns a tensor or a tree of them; it may
               change tensors of its own, in place, and may not wait for the GPU
    state      those of them that say where it stands; warm-up runs are undone by putting them back
    """

    def __init__(self, function: Callable[..., Any], state: Sequence[Tensor] = ()):
        self.function, self.state = function, state
        self.graph: torch.cuda.CUDAGraph | None = None
        self.inputs: list[Tensor] = []
        self.output: Any = None

    def __call__(self, *inputs: Tensor) -> Any:
        """The function's output, as tensors of the caller's own."""
        with torch.cuda.device(inputs[0].device):
            if self.graph is None:
                self._record(inputs)
            for buffer, given in zip(self.inputs, inputs, strict=True):
                assert buffer.shape == given.shape, (buffer.shape, given.shape)
                buffer.copy_(given, non_blocking=True)
            assert self.graph is not None
            self.graph.replay()
            return pytree.tree_map(lambda tensor: tensor.clone(), self.output)

    def _record(self, inputs: Sequence[Tensor]) -> None:
        self.inputs = [given.clone() for given in inputs]
        self._warm_up()
        graph = torch.cuda.CUDAGraph()
        # thread_local: threads that load data meanwhile may allocate
        with deferred_signals(), torch.cuda.graph(graph, capture_error_mode="thread_local"):
            self.output = self.function(*self.inputs)
        self.graph = graph

    def _warm_up(self) -> None:
        before = [tensor.clone() for tensor in self.state]
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(WARM_UP):
                self.function(*self.inputs)
                for tensor, value in zip(self.state, before, strict=True):
                    tensor.copy_(value)
        torch.cuda.current_stream().wait_stream(beside)
