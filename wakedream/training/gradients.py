"""Clipping, and a guard against numbers that are not finite, without waiting for the device."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from wakedream.training.shards import is_sharded, local, sum_over_shards
from wakedream.training.stored import Stored, fill


@torch.no_grad()
def clip_and_guard(
    parameters: Iterable[nn.Parameter], clip_norm: float | None, loss: Tensor
) -> tuple[Tensor, Tensor]:
    """Scale all gradients to at most `clip_norm` together; zero them if they or the loss are not finite.

    Returns their norm before clipping and whether all was finite, both on the device and the same on all processes.
    One flat copy of the gradients: a handful of kernels whatever the number of parameters. A parameter without numbers
    (of no registers) loses its gradient: no optimizer shall mix it with sharded ones.
    """
    used = []
    for parameter in parameters:
        if parameter.numel() == 0:
            parameter.grad = None
        elif parameter.grad is not None:
            used.append(parameter)
    grads = [local(parameter.grad) for parameter in used]  # type: ignore[arg-type]
    flat = torch.cat([grad.reshape(-1).float() for grad in grads])
    norm = torch.linalg.vector_norm(flat)
    if is_sharded(used[0]):
        norm = sum_over_shards(norm.square(), used[0]).sqrt()
    finite = norm.isfinite() & loss.isfinite()
    scale = torch.ones_like(norm) if clip_norm is None else (clip_norm / (norm + 1e-6)).clamp_max(1.0)
    flat = torch.where(finite, flat * scale, 0.0)
    for parameter, grad, piece in zip(used, grads, flat.split([grad.numel() for grad in grads]), strict=True):
        if is_sharded(parameter):
            grad.copy_(piece.view_as(grad))
        else:
            parameter.grad = piece.view_as(grad).to(grad.dtype)
    return norm, finite


class FiniteCheck:
    """Counts, on the device, steps that were left out because a number was not finite."""

    def __init__(self, device: torch.device):
        self.skipped = torch.zeros((), dtype=torch.int64, device=device)
        self.in_a_row = torch.zeros((), dtype=torch.int64, device=device)

    def add(self, finite: Tensor) -> None:
        self.skipped += ~finite
        self.in_a_row += 1
        self.in_a_row *= ~finite

    def state_dict(self) -> dict[str, Tensor]:
        return {"skipped": self.skipped, "in_a_row": self.in_a_row}

    def load_state_dict(self, state: dict[str, Stored]) -> None:
        for name, count in self.state_dict().items():
            fill(count, state[name])
