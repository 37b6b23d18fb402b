"""Which patches the encoder does not see (masked autoencoding; paper section 3.1)."""

import torch

from wakedream.notation import PatchMask


def uniform_mask(
    batch: int,
    frames: int,
    patches: int,
    highest: float,
    device: torch.device | str,
    generator: torch.Generator | None = None,
) -> PatchMask:
    """Every frame draws p ~ U(0, highest); each of its patches is masked with probability p."""
    ratio = torch.rand(batch, frames, 1, device=device, generator=generator) * highest
    return torch.rand(batch, frames, patches, device=device, generator=generator) < ratio


def fixed_mask(
    batch: int,
    frames: int,
    patches: int,
    ratio: float,
    device: torch.device | str,
    generator: torch.Generator | None = None,
) -> PatchMask:
    """Exactly round(ratio * patches) of every frame's patches, by a fresh permutation per frame."""
    noise = torch.rand(batch, frames, patches, device=device, generator=generator)
    return noise.argsort(dim=-1).argsort(dim=-1) < round(ratio * patches)
