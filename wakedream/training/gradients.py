"""Clipping, and a guard against numbers that are not finite, without waiting for the device."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


@torch.no_grad()
def clip_and_guard(
    parameters: Iterable[nn.Parameter], clip_norm: float | None, loss: Tensor
) -> tuple[Tensor, Tensor]:
    """Scale all gradients to at most `clip_norm` together; zero them if they or the loss are not finite.

    Returns their norm before clipping and whether all was finite, both on the device. One flat copy of the
    gradients: a handful of kernels whatever the number of parameters.
    """
    used = [parameter for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([parameter.grad.reshape(-1).float() for parameter in used])  # type: ignore[union-attr]
    norm = torch.linalg.vector_norm(flat)
    finite = norm.isfinite() & loss.isfinite()
    scale = torch.ones_like(norm) if clip_norm is None else (clip_norm / (norm + 1e-6)).clamp_max(1.0)
    flat = torch.where(finite, flat * scale, 0.0)
    for parameter, piece in zip(used, flat.split([parameter.numel() for parameter in used]), strict=True):
        parameter.grad = piece.view_as(parameter).to(parameter.dtype)
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

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.skipped.copy_(state["skipped"])
        self.in_a_row.copy_(state["in_a_row"])
