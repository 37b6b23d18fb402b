"""A copy of a model for inference alone, made once however many use it."""

import copy
import math
import weakref
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from wakedream.model.fp8 import Fp8Product

Pair = tuple[torch.Tensor, torch.Tensor]
TOGETHER = 64  # tensors that are compared at once: what that takes beside them stays small
DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}
FROZEN = DTYPES | {"fp8": torch.bfloat16}  # of all but the layers' products
Model = TypeVar("Model", bound=nn.Module)


def frozen(model: Model, precision: str | None, output: Collection[str] = ()) -> Model:
    """A copy in a precision (None: as it is) but for the weights `output`, those joined that make one product.

    "fp8": the products of layers, where their sides fit; all else is as in "bf16". Such a copy cannot be frozen again.
    """
    made = copy.deepcopy(model).eval().requires_grad_(False)
    for name, parameter in made.named_parameters():
        if precision is not None and name not in output:
            parameter.data = parameter.data.to(FROZEN[precision])
    for part in list(made.modules()):
        if hasattr(part, "freeze"):
            part.freeze(fp8=precision == "fp8")  # type: ignore[operator]
    for product, layer in _products(made, model).items():
        product.take(layer)
    return made


@dataclass(eq=False)
class Shared(Generic[Model]):
    """A frozen copy, who uses it, and what was built on it: caches and recorded graphs, by their options."""

    model: Model
    users: "weakref.WeakSet[Any]" = field(default_factory=weakref.WeakSet)
    built: dict[Any, Any] = field(default_factory=dict)


_shared: "weakref.WeakKeyDictionary[nn.Module, dict[tuple, Shared]]" = weakref.WeakKeyDictionary()


@torch.inference_mode(False)
def shared_copy(model: Model, precision: str | None, output: Collection[str], compile: bool) -> Shared[Model]:
    """The copy for these options with the weights as they are now.

    Made once as long as the model lives. If the weights have changed, the copy is brought up to date where nobody uses
    it, with all that was recorded of it; what is in use goes on with the weights that it began with, and another is
    made.
    """
    copies = _shared.setdefault(model, {})
    key = precision, compile, next(model.parameters()).device
    found = copies.get(key)
    if found is not None and not up_to_date(found.model, model):
        if len(found.users) == 0:
            refresh(found.model, model)
        else:
            found = None
    if found is None:
        found = copies[key] = Shared(frozen(model, precision, output))
        if compile:
            for block in found.model.blocks:  # type: ignore[union-attr]
                block.compile(fullgraph=True, dynamic=False)
    return found


@torch.no_grad()
def refresh(copied: nn.Module, model: nn.Module) -> None:
    """The model's weights and buffers, in place: what was recorded with the copy reads them."""
    products = _products(copied, model)
    for target, source in _pairs(copied, model, products):
        target.copy_(source)
    for product, layer in products.items():
        product.take(layer)


@torch.no_grad()
def up_to_date(copied: nn.Module, model: nn.Module) -> bool:
    """Whether the copy's numbers are the model's, as far as its precision goes; what is not
    finite equals nothing. Waits for the device."""
    alike: dict[tuple, list[Pair]] = defaultdict(list)
    products = _products(copied, model)
    for target, source in _pairs(copied, model, products):
        alike[target.dtype, source.dtype].append((target, source))
    differ = [product.differs(layer) for product, layer in products.items()]
    for pairs in alike.values():
        for start in range(0, len(pairs), TOGETHER):
            differ.append(_differ(*map(list, zip(*pairs[start:start + TOGETHER], strict=True))))
    return not torch.stack(differ).any()


def _differ(copies: list[torch.Tensor], originals: list[torch.Tensor]) -> torch.Tensor:
    """Whether any does; all in a few kernels, since every dream of a large model asks."""
    if not copies[0].is_floating_point():
        pairs = zip(copies, originals, strict=True)
        return torch.stack([(copied != original).any() for copied, original in pairs]).any()
    cast = [torch.empty_like(copied) for copied in copies]
    torch._foreach_copy_(cast, originals)
    torch._foreach_sub_(cast, copies)
    return (torch.stack(torch._foreach_norm(cast, math.inf)) != 0).any()


def _pairs(copied: nn.Module, model: nn.Module, products: Mapping[Fp8Product, nn.Module]) -> list[Pair]:
    """Weights and buffers of both, but for those of the fp8 products; a copy has joined matrices beside, which are made
    of its weights' memory."""
    own = dict(model.named_parameters()) | dict(model.named_buffers())
    others = dict(copied.named_parameters()) | dict(copied.named_buffers())
    apart = {id(weight) for product, layer in products.items() for weight in product.matrices(layer)}
    return [(others[name], tensor) for name, tensor in own.items() if tensor.numel() and id(tensor) not in apart]


def _products(copied: nn.Module, model: nn.Module) -> dict[Fp8Product, nn.Module]:
    """The copy's fp8 products, and of each the model's layer whose numbers it takes."""
    return {product: model.get_submodule(name.rsplit(".", 2)[0])
            for name, product in copied.named_modules() if isinstance(product, Fp8Product)}
