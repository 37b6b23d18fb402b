"""Pictures of any environment as uint8 (h w 3)."""

import numpy as np


def is_picture(shape: tuple[int, ...], dtype: np.dtype | type) -> bool:
    """Whether an observation can be one: uint8 (h w), (h w c) or (c h w), at least 16 pixels wide."""
    if dtype != np.uint8 or len(shape) not in (2, 3):
        return False
    if len(shape) == 2:
        return min(shape) >= 16
    sides = shape[:2] if shape[2] in (1, 3, 4) else shape[1:] if shape[0] in (1, 3, 4) else (0,)
    return min(sides) >= 16


def to_rgb(picture: np.ndarray, size: int | None = None) -> np.ndarray:
    """Grey becomes three equal channels, alpha is dropped; resized by area to (size size 3) where asked."""
    if picture.ndim == 2:
        picture = picture[:, :, None]
    elif picture.shape[2] not in (1, 3, 4):
        picture = picture.transpose(1, 2, 0)
    rgb = np.repeat(picture, 3, axis=2) if picture.shape[2] == 1 else picture[:, :, :3]
    return rgb if size is None or rgb.shape[:2] == (size, size) else resize(rgb, size)


def resize(rgb: np.ndarray, size: int) -> np.ndarray:
    from PIL import Image

    picture = Image.fromarray(np.ascontiguousarray(rgb))
    return np.asarray(picture.resize((size, size), Image.Resampling.BOX))
