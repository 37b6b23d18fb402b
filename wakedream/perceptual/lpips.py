"""LPIPS (Zhang et al. 2018, "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric"), v0.1.

    d(x, y) = sum over taps of mean over pixels of  head . (unit(f(x)) - unit(f(y)))^2

f are the features of an ImageNet network after a ReLU, unit() divides each pixel's feature by its length,
head is one non-negative weight per channel. The numbers are those of the reference implementation.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from wakedream.errors import ConfigError
from wakedream.perceptual.cache import read
from wakedream.perceptual.trunks import trunk

SHIFT = (-0.030, -0.088, -0.188)  # of inputs in [-1, 1]; the reference's scaling layer
SCALE = (0.458, 0.448, 0.450)
EPS = 1e-10


class LPIPS(nn.Module):
    """Perceptual distance, frozen: `lpips(prediction, target)` of images (n 3 h w) in [0, 1] -> (n,).

    Gradients flow to `prediction` alone. The range is fixed: [0, 1] is mapped to [-1, 1], never guessed.
    The weights are buffers outside the state dict: no optimizer, EMA or checkpoint sees them.
    `LPIPS(net, weights)` takes the tensors named by `Trunk.shapes`; `LPIPS.load(net)` brings the real ones.
    """

    gain: Tensor
    offset: Tensor

    def __init__(self, net: str, weights: dict[str, Tensor]):
        super().__init__()
        self.net, self.trunk = net, trunk(net)
        for name, shape in self.trunk.shapes().items():
            assert weights[name].shape == shape, (name, weights[name].shape, shape)
            weight = weights[name].detach().float().clone()
            if weight.ndim == 4:  # a quarter faster than the default layout (bfloat16, 2 CPU cores)
                weight = weight.contiguous(memory_format=torch.channels_last)
            self.register_buffer(name, weight, persistent=False)
        # images in [0, 1] to the network's input in one step: (2 x - 1 - SHIFT) / SCALE
        shift, scale = torch.tensor(SHIFT), torch.tensor(SCALE)
        self.register_buffer("gain", (2 / scale)[:, None, None], persistent=False)
        self.register_buffer("offset", (-(1 + shift) / scale)[:, None, None], persistent=False)
        super().train(False)

    @classmethod
    def load(cls, net: str = "alex") -> "LPIPS":
        """The real weights from the user's cache; WeightsError says how to get them."""
        return cls(net, read(net))

    def train(self, mode: bool = True) -> "LPIPS":
        """Stays in eval mode, whatever is asked."""
        return super().train(False)

    def forward(
        self, prediction: Float[Tensor, "n c h w"], target: Float[Tensor, "n c h w"]
    ) -> Float[Tensor, " n"]:
        self._check(prediction, target)
        with torch.no_grad():
            wanted = [_unit(feature) for feature in self.features(target)]
        distance = torch.zeros(len(prediction), device=prediction.device)
        for k, feature in enumerate(self.features(prediction)):
            difference = (_unit(feature) - wanted[k]) ** 2
            head = getattr(self, f"head{k}").float()
            distance = distance + torch.einsum("nchw,c->nhw", difference, head).mean((1, 2))
        return distance

    def features(self, images: Float[Tensor, "n c h w"]) -> list[Tensor]:
        """Feature maps (n c h w) after the ReLU of each tap."""
        x, taps = (images * self.gain + self.offset).contiguous(memory_format=torch.channels_last), []
        for i, (_, _, stride, padding) in enumerate(self.trunk.convs):
            if i in self.trunk.pooled_before:
                x = F.max_pool2d(x, self.trunk.pool, stride=2)
            x = F.conv2d(x, getattr(self, f"conv{i}_weight"), getattr(self, f"conv{i}_bias"), stride, padding)
            x = F.relu(x)
            if i in self.trunk.taps:
                taps.append(x)
        return taps

    def _check(self, prediction: Tensor, target: Tensor) -> None:
        assert prediction.shape == target.shape, (prediction.shape, target.shape)
        assert prediction.is_floating_point(), prediction.dtype
        assert target.is_floating_point(), target.dtype
        self.check(*prediction.shape[-3:])

    def check(self, channels: int, height: int, width: int) -> None:
        """ConfigError unless such pictures can be compared."""
        least = self.trunk.min_size
        if channels != 3 or min(height, width) < least:
            raise ConfigError(
                f"LPIPS ({self.net}) compares RGB images of at least {least}x{least} pixels, these are "
                f"{height}x{width} with {channels} channels: use larger ones, or set LPIPS's loss weight to 0"
            )


def _unit(feature: Tensor) -> Tensor:
    """Each pixel's feature divided by its length. In float32: near-equal ones differ below bf16's step."""
    feature = feature.float()
    # vector_norm's gradient is 0 where the feature is 0; that of sqrt(sum of squares) would be NaN
    return feature / (torch.linalg.vector_norm(feature, dim=1, keepdim=True) + EPS)
