"""What a user gives from outside as tensors: numpy arrays, lists and plain numbers are as good, and looked at first;
and frames as pixels again, for whoever looks at them."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wakedream.data.actions import ActionComponent, ActionSpec
from wakedream.data.trajectory import Actions
from wakedream.errors import DataError

Given = Tensor | np.ndarray | np.generic | Sequence[Any] | bool | int | float
GivenActions = Mapping[str, Given] | Given  # a component that is the only one needs no name
ROUNDING = 1e-3  # frames that were resized or rounded may leave [0, 1] by this much
REACH = 1.5  # latents are in [-1, 1]; what is drawn or interpolated around them may leave that, but not by more


def tensor_of(value: Given, what: str) -> Tensor:
    """A tensor as it is, anything else copied. ValueError for what holds other things than numbers."""
    if isinstance(value, Tensor):
        return value
    try:
        return torch.from_numpy(np.array(value, order="C"))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what}: expected a tensor, an array or lists of numbers, all of one length, got "
                         f"{type(value).__name__} ({error})") from None


def frames_of(value: Given) -> Tensor:
    """uint8 or float frames of any shape; whole numbers in a list are pixels from 0 to 255."""
    frames = tensor_of(value, "frames")
    if not isinstance(value, Tensor) and frames.dtype == torch.int64 and frames.numel():
        if frames.min() < 0 or frames.max() > 255:
            raise ValueError(f"frames as whole numbers from {frames.min()} to {frames.max()}: expected 0 to 255")
        return frames.to(torch.uint8)
    return frames


def pixels_of(frames: Tensor) -> Tensor:
    """Frames in [0, 1], of any shape, as uint8; what lies beyond is cut off."""
    return (frames.float().clamp(0, 1) * 255).round().byte()


def check_frames(frames: Tensor) -> None:
    """ValueError unless they are uint8, or floats in [0, 1]. Only on the host: a device would have to be waited for."""
    if frames.dtype == torch.uint8:
        return
    if not frames.is_floating_point():
        raise ValueError(f"expected frames as uint8 or as floats in [0, 1], got {frames.dtype}")
    if frames.device.type != "cpu" or not frames.numel():
        return
    low, high = (float(value) for value in frames.detach().aminmax())
    if math.isnan(low) or math.isinf(low) or math.isinf(high):
        raise ValueError("the frames hold numbers that are not finite: expected uint8, or floats in [0, 1]")
    if low < -ROUNDING or high > 1 + ROUNDING:
        raise ValueError(f"the frames' numbers are from {low:g} to {high:g}: expected uint8 from 0 to 255, or floats "
                         "in [0, 1]")


def latents_of(value: Given) -> Tensor:
    """Floats of any shape, looked at: ValueError unless they are numbers in [-1, 1], or not far from it. Values only on
    the host: a device would have to be waited for."""
    latents = tensor_of(value, "latents")
    if not latents.is_floating_point():
        raise ValueError(f"expected latents as floats in [-1, 1], as `encode` gives them, got {latents.dtype}")
    if not isinstance(value, Tensor):
        latents = latents.float()
    if latents.device.type != "cpu" or not latents.numel():
        return latents
    low, high = (float(number) for number in latents.detach().aminmax())
    if not math.isfinite(low) or not math.isfinite(high):
        raise ValueError("the latents hold numbers that are not finite: expected floats in [-1, 1], as `encode` gives "
                         "them")
    if max(-low, high) > REACH:
        raise ValueError(f"the latents' numbers are from {low:g} to {high:g}: expected floats in [-1, 1], as `encode` "
                         "gives them, not scaled")
    return latents


def actions_of(spec: ActionSpec, given: GivenActions, shape: tuple[int, ...]) -> Actions:
    """By component: int64 of this shape, (b) or (b t), or float32 with the component's size behind. DataError for
    shapes and names that are none of these; values are looked at where they are used.

    Axes of length one may be left out: one dream takes {"move": 2}, one bit or number needs no axis of its own. Where
    there is but one component its values may come bare, without its name.
    """
    if not isinstance(given, Mapping):
        if not spec.components:
            raise DataError(f"actions are given ({type(given).__name__}), but the model was trained without any: leave "
                            "them out")
        if len(spec.components) > 1:
            expected = ", ".join(f"'{component.name}': ..." for component in spec.components)
            raise DataError(f"actions come by component, as {{{expected}}}, got {type(given).__name__}")
        given = {spec.components[0].name: given}
    known = {component.name: component for component in spec.components}
    named = {name: tensor_of(value, f"action component '{name}'") for name, value in given.items()}
    return {name: _shaped(known[name], value, shape) if name in known else value for name, value in named.items()}


def has_action_of(given: Given | None, shape: tuple[int, ...]) -> Tensor | None:
    """bool of this shape, from which axes of length one may be left out."""
    if given is None:
        return None
    value = tensor_of(given, "has_action")
    return value.reshape(shape) if _fits(value, shape) else value


def _shaped(component: ActionComponent, value: Tensor, shape: tuple[int, ...]) -> Tensor:
    chosen = component.kind == "categorical"
    expected = shape if chosen else (*shape, component.size)
    if not _fits(value, expected):
        rows = "one dream" if shape[0] == 1 else f"{shape[0]} dreams"
        frames = f" of {shape[1]} frames" if len(shape) > 1 else ""
        raise DataError(f"action component '{component.name}': got shape {tuple(value.shape)} for {rows}{frames}, "
                        f"expected {expected}")
    value = value.reshape(expected)
    if chosen:
        whole = not (value.is_floating_point() or value.is_complex() or value.dtype == torch.bool)
        return value.long() if whole else value
    return value.float()


def _fits(value: Tensor, shape: tuple[int, ...]) -> bool:
    """Whether it has this shape but for axes of length one that are left out."""
    if value.ndim >= len(shape):
        return tuple(value.shape) == shape
    return [n for n in value.shape if n != 1] == [n for n in shape if n != 1]
