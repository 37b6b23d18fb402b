"""A model for inference alone."""

import copy
from typing import TypeVar

import torch
from torch import nn

from wakedream.transformer.layers import Layer

DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}
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
