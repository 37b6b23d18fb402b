"""What the looks at held-out data during training share."""

import copy

from einops import rearrange, repeat
from torch import Tensor

from wakedream.data.store import Store
from wakedream.errors import WeightsError
from wakedream.model.given import pixels_of
from wakedream.notation import Frames
from wakedream.perceptual.lpips import LPIPS
from wakedream.perceptual.trunks import trunk
from wakedream.training.distributed import Place

NET = "alex"  # of LPIPS, by which is judged
SHOWN, LEAST_PIXELS = 8, 128  # columns of the picture, and the width to which small frames are enlarged


class Perception:
    """LPIPS, held once while a stage trains; and by what weights are judged, which is settled when a run begins.

    judged_by   "lpips", or "psnr" where frames are too small for LPIPS, have no colours, or its weights were not at
                hand. recorded: what the run was begun with, if it was begun before; what is installed by now changes
                nothing
    """

    def __init__(self, store: Store, place: Place, recorded: str | None = None):
        self.place, self._held = place, dict[str, LPIPS]()
        h, w, c = store.frame_shape
        self.lpips: LPIPS | None = None  # of the process that looks
        if place.writes and c == 3 and min(h, w) >= trunk(NET).min_size:
            try:
                self.lpips = copy.copy(self.of(NET))
            except WeightsError as error:
                if recorded == "lpips":
                    raise WeightsError(f"this run chooses its best weights by LPIPS, as it did when it began: {error}"
                                       ) from error
        self.judged_by = recorded or ("lpips" if self.lpips else "psnr")

    def of(self, net: str) -> LPIPS:
        """The network on the device, to learn from; whoever else uses it holds the same tensors."""
        if net not in self._held:
            self._held[net] = LPIPS.load(net).to(self.place.device)
        return self._held[net]

    def score(self, found: dict[str, float], count: int) -> tuple[float, str]:
        """Of what was measured of `count` dreams: the higher the better; and what it is."""
        score = -found["lpips"] if self.judged_by == "lpips" else found["psnr"]
        return score, f"{self.judged_by.upper()} of {count} dreams"


def picture(rows: Frames) -> Tensor:
    """Rows of frames (row column c h w) in [0, 1] as one uint8 picture (h w 3), small frames enlarged."""
    if rows.shape[2] != 3:
        rows = repeat(rows.mean(2), "row column h w -> row column c h w", c=3)
    times = max(1, LEAST_PIXELS // rows.shape[-1])
    rows = repeat(rows, "row column c h w -> row column c (h y) (w x)", y=times, x=times)
    return rearrange(pixels_of(rows), "row column c h w -> (row h) (column w) c")
