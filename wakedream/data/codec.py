"""Lossless compression of a short run of frames: a reversible filter, chosen by size, then zstandard.

Filters, each reversible in uint8 arithmetic:
    0 none      games that scroll: zstandard finds what moved by itself
    1 delta     each frame less the one before it; for what is not RGB
    2 colour    delta, red and blue less green, channels apart: natural video, still backgrounds
Measured sizes are in docs/data.md. A zstandard frame carries its own checksum, so damage is found at reading.
"""

import threading

import numpy as np
import zstandard

from wakedream.errors import DataError

CHUNK_FRAMES = 16
TRIAL_LEVEL, LEVEL = 3, 6  # to choose the filter, to store: 9 and 9 take 2.7 times as long for 0.7 % less
NONE, DELTA, COLOUR = range(3)

_thread = threading.local()  # zstandard contexts must not be shared between threads


def encode_chunk(frames: np.ndarray) -> tuple[int, bytes]:
    """uint8 (t h w c) -> (filter, compressed bytes). Frees the GIL while it works."""
    if not hasattr(_thread, "compressor"):
        _thread.trial = zstandard.ZstdCompressor(level=TRIAL_LEVEL)
        _thread.compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True)
    filters = (NONE, COLOUR) if frames.shape[-1] == 3 else (NONE, DELTA)
    filtered = {kind: _apply(kind, frames) for kind in filters}
    kind = min(filters, key=lambda kind: len(_thread.trial.compress(filtered[kind])))
    return kind, _thread.compressor.compress(filtered[kind])


def decode_chunk(kind: int, data: bytes | memoryview, shape: tuple[int, ...]) -> np.ndarray:
    """The uint8 frames (t h w c) of `shape`; DataError when damaged. Frees the GIL while it works."""
    if not hasattr(_thread, "decompressor"):
        _thread.decompressor = zstandard.ZstdDecompressor()
    size = int(np.prod(shape))
    try:
        if zstandard.frame_content_size(data) != size:
            raise DataError("damaged frames: they unpack to another size than was stored")
        flat = np.frombuffer(_thread.decompressor.decompress(data), np.uint8)
    except zstandard.ZstdError as error:
        raise DataError(f"damaged frames: {error}") from error
    if len(flat) != size or kind not in (NONE, DELTA, COLOUR):
        raise DataError("damaged frames: they unpack to another size or filter than was stored")
    return _undo(kind, flat, shape)


def _apply(kind: int, frames: np.ndarray) -> np.ndarray:
    if kind == NONE:
        return np.ascontiguousarray(frames)
    delta = frames.copy()
    delta[1:] -= frames[:-1]
    if kind == DELTA:
        return delta
    planes = np.ascontiguousarray(np.moveaxis(delta, -1, 0))
    planes[0] -= planes[1]
    planes[2] -= planes[1]
    return planes


def _undo(kind: int, flat: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if kind == NONE:
        return flat.reshape(shape)
    if kind == COLOUR:
        t, h, w, _ = shape
        planes = flat.reshape(3, t, h, w)
        frames = np.empty(shape, np.uint8)
        frames[..., 1] = planes[1]
        np.add(planes[0], planes[1], out=frames[..., 0])
        np.add(planes[2], planes[1], out=frames[..., 2])
    else:
        frames = flat.reshape(shape).copy()
    for i in range(1, len(frames)):  # faster than cumsum along the first axis
        frames[i] += frames[i - 1]
    return frames
