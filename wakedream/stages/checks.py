"""What the looks at held-out data during training share."""

from einops import rearrange, repeat
from torch import Tensor

from wakedream.data.store import Store
from wakedream.errors import WeightsError
from wakedream.notation import Frames
from wakedream.perceptual.lpips import LPIPS
from wakedream.perceptual.trunks import trunk
from wakedream.training.distributed import Place

SHOWN, LEAST_PIXELS = 8, 128  # columns of the picture, and the width to which small frames are enlarged


def perceptual(store: Store, place: Place) -> LPIPS | None:
    """For the process that looks; None where it has no weights, or the frames are too small or have no colours."""
    h, w, c = store.frame_shape
    if not place.writes or c != 3 or min(h, w) < trunk("alex").min_size:
        return None
    try:
        return LPIPS.load("alex").to(place.device)
    except WeightsError:
        return None


def picture(rows: Frames) -> Tensor:
    """Rows of frames (row column c h w) in [0, 1] as one uint8 picture (h w 3), small frames enlarged."""
    if rows.shape[2] != 3:
        rows = repeat(rows.mean(2), "row column h w -> row column c h w", c=3)
    times = max(1, LEAST_PIXELS // rows.shape[-1])
    rows = repeat(rows, "row column c h w -> row column c (h y) (w x)", y=times, x=times)
    return rearrange((rows.clamp(0, 1) * 255).round().byte(), "row column c h w -> (row h) (column w) c")
