"""Run the reference LPIPS (package lpips 0.1.4) and keep its numbers: writes lpips.json beside this file.

    pip install --no-deps lpips==0.1.4        # torchvision is not needed
    wakedream weights lpips --net all --package
    python tests/golden/lpips_reference.py

The reference asks torchvision only for AlexNet's and VGG16's `features`, which are listed below in its order;
the weights put into them are those of the cache and, so that the test also runs without, random ones.
"""

import json
import sys
import types
from pathlib import Path

import torch
from lpips_pairs import pairs, random_weights
from torch import nn

from wakedream.perceptual.cache import read
from wakedream.perceptual.sources import TORCHVISION
from wakedream.perceptual.trunks import TRUNKS

SIZES = ((64, 64), (48, 80), (33, 31))


def alexnet() -> nn.Sequential:
    relu, pool = nn.ReLU, lambda: nn.MaxPool2d(3, 2)
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, 4, 2), relu(), pool(), nn.Conv2d(64, 192, 5, padding=2), relu(), pool(),
        nn.Conv2d(192, 384, 3, padding=1), relu(), nn.Conv2d(384, 256, 3, padding=1), relu(),
        nn.Conv2d(256, 256, 3, padding=1), relu(), pool(),
    )  # fmt: skip


def vgg16() -> nn.Sequential:
    layers, channels = [], 3
    for width in (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0):
        if width:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        else:
            layers.append(nn.MaxPool2d(2, 2))
    return nn.Sequential(*layers)


def reference(net: str, weights: dict[str, torch.Tensor]) -> nn.Module:
    features = {"alex": alexnet, "vgg": vgg16}[net]()
    for i, index in enumerate(TORCHVISION[net]):
        features[index].weight.data.copy_(weights[f"conv{i}_weight"])
        features[index].bias.data.copy_(weights[f"conv{i}_bias"])
    models = types.ModuleType("torchvision.models")
    models.alexnet = models.vgg16 = lambda pretrained: types.SimpleNamespace(features=features)
    torchvision = types.ModuleType("torchvision")
    torchvision.models = models
    # only the distance itself is wanted; the package's training code would need all of these
    for name in ("IPython", "scipy", "scipy.ndimage", "skimage", "tqdm"):
        sys.modules.setdefault(name, types.ModuleType(name))
    sys.modules["IPython"].embed = sys.modules["tqdm"].tqdm = None
    sys.modules.update({"torchvision": torchvision, "torchvision.models": models})
    sys.modules["lpips.trainer"] = types.ModuleType("lpips.trainer")
    for name in [name for name in sys.modules if name.startswith("lpips.") and name != "lpips.trainer"]:
        del sys.modules[name]
    sys.modules.pop("lpips", None)
    import lpips

    model = lpips.LPIPS(net=net, verbose=False)
    for k, head in enumerate(model.lins):
        head.model[1].weight.data.copy_(weights[f"head{k}"][None, :, None, None])
    return model.eval()


@torch.no_grad()
def main() -> None:
    golden: dict[str, dict[str, dict[str, list[float]]]] = {}
    for net, architecture in TRUNKS.items():
        for kind, weights in (("random", random_weights(architecture.shapes())), ("real", read(net))):
            model = reference(net, weights)
            for height, width in SIZES:
                values = model(*pairs(height, width), normalize=True).flatten().tolist()
                golden.setdefault(net, {}).setdefault(kind, {})[f"{height}x{width}"] = values
    Path(__file__).with_name("lpips.json").write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
