"""Pictures in arrays: which arrays hold some, and one picture as uint8 (h w 3)."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from wakedream.data.video import Fit, resize
from wakedream.errors import ConfigError, DataError

LEAST = 16  # pixels each way: smaller arrays are boards and states


def is_picture(shape: tuple[int, ...], dtype: Any) -> bool:
    """Whether an array can be one: uint8 (h w), (h w c) or (c h w), c 1 or 3, at least 16 pixels each way.

    Four channels are as often four moments as red, green, blue and opacity: they are not taken.
    """
    if np.dtype(dtype) != np.uint8 or len(shape) not in (2, 3):
        return False
    if len(shape) == 3 and shape[2] not in (1, 3) and shape[0] not in (1, 3):
        return False
    h, w = shape if len(shape) == 2 else shape[:2] if shape[2] in (1, 3) else shape[1:]
    return min(h, w) >= LEAST


def choose(camera: str | None, found: Iterable[str], where: str, there: str, remedy: str) -> str:
    """The pictures to take. `there`: all that there is, told where there are none. A name may be given by its end."""
    names = sorted(found)
    if not names:
        raise DataError(f"{where} has no pictures: it has {there}. {remedy}")
    if camera is None:
        if len(names) > 1:
            raise ConfigError(f"{where} has several pictures: choose one with --camera: {', '.join(names)}")
        return names[0]
    ends = [name for name in names if name == camera or name.endswith((f"/{camera}", f".{camera}"))]
    if camera in names:
        return camera
    if len(ends) != 1:
        raise ConfigError(f"--camera {camera}: {where} has {', '.join(names)}")
    return ends[0]


def fitted(picture: Any, size: tuple[int, int], fit: Fit) -> np.ndarray:
    """An av.VideoFrame, or uint8 (h w), (h w c) or (c h w), as uint8 (h w 3) of `size`; opacity is left out."""
    if not isinstance(picture, np.ndarray):
        return resize(picture, size, fit)
    import av

    rgb = _rgb(picture)
    if rgb.shape[:2] == size:
        return rgb
    return resize(av.VideoFrame.from_ndarray(rgb, format="rgb24"), size, fit)


def _rgb(picture: np.ndarray) -> np.ndarray:
    if picture.dtype != np.uint8 or picture.ndim not in (2, 3):
        raise DataError(f"a picture is {picture.dtype} {picture.shape}, expected uint8 (h w) or (h w c)")
    if picture.ndim == 2:
        picture = picture[..., None]
    if picture.shape[2] not in (1, 3, 4) and picture.shape[0] in (1, 3):
        picture = picture.transpose(1, 2, 0)
    if picture.shape[2] not in (1, 3, 4):
        raise DataError(f"a picture has {picture.shape[2]} channels, expected 1 (grey), 3 (RGB) or 4 (RGB and opacity)")
    picture = picture[..., :3] if picture.shape[2] == 4 else picture
    return np.ascontiguousarray(picture if picture.shape[2] == 3 else picture.repeat(3, -1))
