"""Products of a frozen model in fp8: half the bytes of bf16 to read, twice the rate, on GPUs that multiply it.

e4m3 has 3 bits of mantissa from 2^-6 to 448. A matrix has one scale, its largest number / 448. Activations are cast as
they are: they follow a norm, or are means or products of what does, and so stand well within.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from wakedream.errors import ConfigError

E4M3 = torch.float8_e4m3fn
LARGEST = torch.finfo(E4M3).max  # 448
MULTIPLE = 16  # both sides of a matrix must be multiples of it
CAPABILITY = (8, 9)  # of the first GPUs that multiply e4m3


def check_fp8(device: torch.device) -> None:
    """ConfigError where the device cannot multiply fp8. A CPU can, slowly: for tests."""
    if device.type == "cpu" or has_fp8(device):
        return
    found = f"'{device}'"
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        found = f"{torch.cuda.get_device_name(device)} with {major}.{minor}"
    raise ConfigError(f"precision is 'fp8': expected a GPU of compute capability {CAPABILITY[0]}.{CAPABILITY[1]} or "
                      f"higher (Ada, Hopper or later), found {found}: use 'bf16'")


def has_fp8(device: torch.device) -> bool:
    """Whether it is a GPU that multiplies e4m3."""
    return (device.type == "cuda" and torch.version.hip is None
            and torch.cuda.get_device_capability(device) >= CAPABILITY)


def e4m3(x: Tensor) -> Tensor:
    """Cast; what is beyond +-448 becomes that, where a plain cast may give NaN."""
    return x.clamp(-LARGEST, LARGEST).to(E4M3)


class Fp8Product(nn.Module):
    """x (... k) to (... n), both bf16: e4m3(x) @ weight.T * scale.

    maps     the names of the linear maps beside it, in the model that was frozen, whose matrices are joined here
    weight   e4m3 (n k)
    scale    float32 (): times which the weight is what `take` was given
    """

    weight: Tensor
    scale: Tensor
    one: Tensor

    def __init__(self, maps: Sequence[str], n: int, k: int, device: torch.device):
        super().__init__()
        self.maps = tuple(maps)
        self.register_buffer("weight", torch.zeros(n, k, dtype=E4M3, device=device))
        self.register_buffer("scale", torch.ones((), device=device))
        self.register_buffer("one", torch.ones((), device=device), persistent=False)

    @staticmethod
    def fits(n: int, k: int) -> bool:
        return n % MULTIPLE == 0 and k % MULTIPLE == 0

    def forward(self, x: Float[Tensor, "... k"]) -> Float[Tensor, "... n"]:
        flat = e4m3(x.reshape(-1, x.shape[-1]))
        made = torch._scaled_mm(flat, self.weight.t(), self.one, self.scale, out_dtype=torch.bfloat16,
                                use_fast_accum=True)
        return made.view(*x.shape[:-1], -1)

    @torch.no_grad()
    def take(self, weights: Sequence[Tensor]) -> None:
        """The matrices, one below the other, in place."""
        scale = _scale(weights)
        self.scale.copy_(scale)
        for part, weight in self._beside(weights):
            part.copy_(e4m3(weight.float() / scale))

    @torch.no_grad()
    def differs(self, weights: Sequence[Tensor]) -> Tensor:
        """bool (): whether `take` would change anything; what is not finite always does."""
        scale = _scale(weights)
        parts = [(part.view(torch.uint8) != e4m3(weight.float() / scale).view(torch.uint8)).any()
                 for part, weight in self._beside(weights)]
        return torch.stack([self.scale - scale != 0, *parts]).any()

    def _beside(self, weights: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        return list(zip(self.weight.split([len(weight) for weight in weights]), weights, strict=True))


def _scale(weights: Sequence[Tensor]) -> Tensor:
    """float32 (); of zeros alone any would do."""
    largest = torch.stack([weight.abs().amax().float() for weight in weights]).amax()
    return (largest / LARGEST).clamp(min=torch.finfo(torch.float32).tiny)
