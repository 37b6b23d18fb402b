"""A head: from what the agent tokens put out to predictions for this frame and those after it."""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn


class Head(nn.Module):
    """(*b width) to (*b distances outputs): a trunk of its own, then one linear map for each distance.

    In float32. scale: of the last map's weights at the beginning, in units of 1 / sqrt(fan_in); 0: it says nothing yet.
    """

    def __init__(self, width: int, outputs: int, *, distances: int = 1, mlp_dim: int, mlp_depth: int, scale: float):
        super().__init__()
        layers: list[nn.Module] = []
        for fan_in in (width, *[mlp_dim] * (mlp_depth - 1)):
            linear = nn.Linear(fan_in, mlp_dim, bias=False)
            nn.init.normal_(linear.weight, std=fan_in**-0.5)
            layers += [linear, nn.RMSNorm(mlp_dim), nn.SiLU()]
        self.trunk = nn.Sequential(*layers)
        self.distances, self.width = distances, width
        self.out = nn.Linear(mlp_dim, distances * outputs, bias=False)
        nn.init.normal_(self.out.weight, std=scale * mlp_dim**-0.5) if scale else nn.init.zeros_(self.out.weight)

    def forward(self, hidden: Float[Tensor, "*b w"]) -> Float[Tensor, "*b n o"]:
        with torch.autocast(hidden.device.type, enabled=False):  # small, and read as probabilities
            put_out = self.out(self.trunk(hidden.to(self.out.weight.dtype)))
        return rearrange(put_out, "... (n o) -> ... n o", n=self.distances)
