"""A model for inference alone, and how it is run frame by frame."""

import copy
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from wakedream.errors import ConfigError
from wakedream.transformer.cache import Cache
from wakedream.transformer.graph import Recorded
from wakedream.transformer.layers import Layer

DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}
RECOMPILATIONS = 256  # each layer has a cache of its own, each shape of stream its own code
Model = TypeVar("Model", bound=nn.Module)


def frozen(model: Model, precision: str | None, output: str) -> Model:
    """A copy in a precision (None: as it is) but for the weights `output`, those joined that make one product."""
    made = copy.deepcopy(model).eval().requires_grad_(False)
    for name, parameter in made.named_parameters():
        if precision is not None and name != output:
            parameter.data = parameter.data.to(DTYPES[precision])
    for layer in made.modules():
        if isinstance(layer, Layer):
            layer.freeze()
    return made


@dataclass(frozen=True)
class FrameByFrame:
    """The options that everything has which makes one frame after the other, checked.

    model, rows     what they are called in errors: "tokenizer", "streams"
    precision       of the weights: by default bf16 on a GPU, on a CPU the model's own
    graph           each frame is a CUDA graph (default: on a GPU)
    compile         layers are compiled first
    """

    model: str
    rows: str
    device: torch.device
    batch_size: int
    precision: str | None = None
    graph: bool | None = None
    compile: bool = False

    def __post_init__(self) -> None:
        size = self.batch_size
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise ConfigError(f"batch_size is {size!r}: expected the number of {self.rows}, 1 or more")
        if self.graph and self.device.type != "cuda":
            raise ConfigError(f"graph=True records a CUDA graph, but the {self.model} is on '{self.device}': move it "
                              "first, with .cuda(), or leave graph out")
        if self.precision not in (None, *DTYPES):
            raise ConfigError(f"precision is {self.precision!r}: expected 'float32', 'bf16' or None")

    def frozen(self, model: Model, output: str) -> Model:
        """A copy for inference as the options say; see `frozen`."""
        made = frozen(model, self.precision or ("bf16" if self.device.type == "cuda" else None), output)
        if self.compile:
            for block in made.blocks:  # type: ignore[union-attr]
                block.compile(fullgraph=True, dynamic=False)
        return made

    def recorded(self, step: Callable[..., Tensor], cache: Cache) -> Callable[..., Tensor]:
        """The step, which goes on from `cache`, as a CUDA graph where the options say so."""
        graph = self.device.type == "cuda" if self.graph is None else self.graph
        return Recorded(step, cache.place) if graph else step

    @torch.inference_mode(False)  # a ring of inference tensors could not be changed outside of that mode
    @torch.no_grad()
    def run(self, step: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        limits: Any = torch._dynamo.config.patch(recompile_limit=RECOMPILATIONS) if self.compile else nullcontext()
        with limits, torch.autocast(self.device.type, enabled=False):
            return step(*inputs)

    def reset(self, rows: Tensor | None, *caches: Cache) -> None:
        """Forget everything, or the rows where bool (b) is True; ValueError for anything else."""
        if rows is not None:
            if rows.dtype != torch.bool or rows.shape != (self.batch_size,):
                raise ValueError(f"reset takes bool ({self.batch_size},), one truth for each row, got {rows.dtype} "
                                 f"{tuple(rows.shape)}")
            rows = rows.to(self.device)
        for cache in caches:
            cache.reset(rows)
