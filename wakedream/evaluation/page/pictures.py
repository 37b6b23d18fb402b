"""Frames as pictures for a page: side by side, enlarged, as PNG; all uint8 RGB."""

import io

import numpy as np
from einops import rearrange
from torch import Tensor

from wakedream.model.given import pixels_of

ERROR_GAIN = 4
GAP = 2  # pixels between frames
VIDEOS, VIDEO_FRAMES = 3, 64


def error(prediction: Tensor, target: Tensor) -> Tensor:
    """The absolute difference, enlarged to be seen."""
    return ((prediction - target).abs() * ERROR_GAIN).clamp(0, 1)


def strip(frames: Tensor) -> np.ndarray:
    """Frames (n c h w) in [0, 1] side by side with gaps, uint8 (h w 3)."""
    count, _, height, width = frames.shape
    canvas = np.full((height, count * (width + GAP) - GAP, 3), 255, np.uint8)
    for i, picture in enumerate(to_uint8(frames)):
        canvas[:, i * (width + GAP) : i * (width + GAP) + width] = picture
    return canvas


def to_uint8(frames: Tensor) -> np.ndarray:
    """(n c h w) in [0, 1] to uint8 (n h w 3); one channel becomes grey."""
    pictures = pixels_of(frames).cpu()
    return rearrange(pictures.expand(-1, 3, -1, -1), "n c h w -> n h w c").numpy()


def enlarge(picture: np.ndarray, factor: int) -> np.ndarray:
    """Every pixel (of h w 3 or t h w 3) becomes a square of `factor` pixels."""
    return picture.repeat(factor, axis=-3).repeat(factor, axis=-2)


def png(picture: np.ndarray) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="png", optimize=True)
    return buffer.getvalue()
