"""The feature networks of LPIPS, as data."""

from dataclasses import dataclass

from wakedream.config import suggest


@dataclass(frozen=True)
class Trunk:
    """A stack of convolutions: (channels, kernel, stride, padding) each, with a ReLU after every one."""

    convs: tuple[tuple[int, int, int, int], ...]
    pooled_before: tuple[int, ...]  # convolutions whose input is max-pooled (stride 2)
    pool: int  # kernel of that pooling
    taps: tuple[int, ...]  # convolutions whose output is compared
    min_size: int  # pixels: below, the last feature map would be empty

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of all weights."""
        shapes: dict[str, tuple[int, ...]] = {}
        channels_in = 3
        for i, (channels, kernel, _, _) in enumerate(self.convs):
            shapes[f"conv{i}_weight"] = (channels, channels_in, kernel, kernel)
            shapes[f"conv{i}_bias"] = (channels,)
            channels_in = channels
        for k, tap in enumerate(self.taps):
            shapes[f"head{k}"] = (self.convs[tap][0],)
        return shapes


TRUNKS = {
    "alex": Trunk(
        convs=((64, 11, 4, 2), (192, 5, 1, 2), (384, 3, 1, 1), (256, 3, 1, 1), (256, 3, 1, 1)),
        pooled_before=(1, 2), pool=3, taps=(0, 1, 2, 3, 4), min_size=31,
    ),
    "vgg": Trunk(
        convs=tuple((c, 3, 1, 1) for c in (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)),
        pooled_before=(2, 4, 7, 10), pool=2, taps=(1, 3, 6, 9, 12), min_size=16,
    ),
}  # fmt: skip


def trunk(net: str) -> Trunk:
    if net not in TRUNKS:
        raise suggest("perceptual network", net, TRUNKS)
    return TRUNKS[net]
