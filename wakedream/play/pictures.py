"""Pictures out and in: frames as PNG or JPEG, films of them, and a visitor's own picture as a frame."""

import io

import numpy as np
from PIL import Image, ImageOps

from wakedream.data.video import encode_mp4

LOSSLESS = 128  # pixels: larger pictures are JPEG
PIXELS = 2**24  # of a picture that is read


def encoded(picture: np.ndarray) -> bytes:
    """uint8 (h w c) as PNG, or as JPEG without subsampling where it is large."""
    file = io.BytesIO()
    image = Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture)
    if max(picture.shape[:2]) <= LOSSLESS:
        image.save(file, "PNG", compress_level=1)
    else:
        image.save(file, "JPEG", quality=92, subsampling=0)
    return file.getvalue()


def read(body: bytes, size: tuple[int, int], channels: int) -> np.ndarray:
    """uint8 (h w c): the middle of the picture, in the world's size."""
    picture = Image.open(io.BytesIO(body), formats=("PNG", "JPEG", "WEBP", "GIF"))
    if picture.width * picture.height > PIXELS:
        raise ValueError(f"{picture.width} x {picture.height} pixels, at most {PIXELS:,} are read")
    whole = ImageOps.exif_transpose(picture).convert("RGB" if channels == 3 else "L")
    fitted = ImageOps.fit(whole, size[::-1], Image.Resampling.BOX)
    return np.asarray(fitted, np.uint8).reshape(*size, channels)


def film(frames: list[np.ndarray], fps: float, kind: str) -> bytes:
    """At four times the size where it is small."""
    scale = max(1, 256 // max(frames[0].shape[:2]))
    if kind == "mp4":
        return encode_mp4(np.stack(frames), fps, scale)
    shown = [Image.fromarray(one.squeeze().repeat(scale, 0).repeat(scale, 1)) for one in frames]
    file = io.BytesIO()
    shown[0].save(file, "GIF", save_all=True, append_images=shown[1:], duration=round(1000 / fps), loop=0)
    return file.getvalue()
