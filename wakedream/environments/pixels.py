"""Pictures of any environment as uint8 (h w 3)."""

from typing import Any

import numpy as np

from wakedream.errors import DataError

SYMBOLS = 16  # a first observation whose numbers are all below, and not all 0, is a board, not a picture
Size = tuple[int, int]  # height, width
AnySize = int | Size | None  # a square's side; None: the environment's own


def both(size: AnySize) -> Size | None:
    return (size, size) if isinstance(size, int) else size


def is_board(picture: np.ndarray) -> bool:
    """Whether an observation that could be a picture holds small numbers alone, which stand for things."""
    return bool(0 < picture.max() < SYMBOLS)


def to_rgb(picture: np.ndarray, size: AnySize = None) -> np.ndarray:
    """Grey becomes three equal channels, alpha is dropped; resized by area to `size` where asked."""
    size = both(size)
    if picture.ndim == 2:
        picture = picture[:, :, None]
    elif picture.shape[2] not in (1, 3, 4):
        picture = picture.transpose(1, 2, 0)
    rgb = np.repeat(picture, 3, axis=2) if picture.shape[2] == 1 else picture[:, :, :3]
    return rgb if size is None or rgb.shape[:2] == size else resize(rgb, size)


def as_bytes(picture: Any, whose: str) -> np.ndarray:
    """The picture as uint8; DataError unless it is whole numbers from 0 to 255 in the shape of one picture."""
    expected = f"{whose} gave %s, expected a picture, uint8 (h w 3) from 0 to 255: wrap the environment to give that"
    if not isinstance(picture, np.ndarray):
        raise DataError(expected % type(picture).__name__)
    channels = {1} if picture.ndim == 2 else {picture.shape[0], picture.shape[2]} if picture.ndim == 3 else set()
    if not channels & {1, 3, 4} or 0 in picture.shape:
        raise DataError(expected % f"an array of the shape {picture.shape}")
    if picture.dtype == np.uint8:
        return picture
    if picture.dtype.kind not in "iu":  # 0 to 1 and 0 to 255 cannot be told apart in a dark picture
        raise DataError(expected % f"numbers of the type {picture.dtype} ({picture.min():g} to {picture.max():g})")
    if picture.min() < 0 or picture.max() > 255:
        raise DataError(expected % f"numbers from {picture.min()} to {picture.max()}")
    return picture.astype(np.uint8)


def resize(rgb: np.ndarray, size: Size) -> np.ndarray:
    from PIL import Image

    picture = Image.fromarray(np.ascontiguousarray(rgb))
    return np.asarray(picture.resize(size[::-1], Image.Resampling.BOX))
