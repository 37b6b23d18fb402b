"""Video files: read any that PyAV reads, write ones that browsers play."""

import sys
import tempfile
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np

from wakedream import runs
from wakedream.data.film import Decoded, opened
from wakedream.data.images import pictures
from wakedream.errors import DataError

Fit = Literal["crop", "pad", "stretch"]
UNSPECIFIED, RESERVED = 2, 3  # colour spaces of ITU-T H.273


def read_video(path: Path | str, size: tuple[int, int], fit: Fit = "crop", fps: float | int | None = None,
               keep_truncated: bool = False) -> Iterator[np.ndarray]:
    """Frames uint8 (h w 3) of `size` (height, width), upright, at `fps` or as they come.

    DataError when it is no video, holds no frame, or (after its last readable frame) breaks off early, unless
    `keep_truncated`. At another frame rate, frames are left out or repeated, never mixed; a gap of over ten seconds,
    and a clock that goes back, are closed up. A folder of images is a video without times.
    """
    path = Path(path)
    if path.is_dir():
        if fps is not None:
            raise DataError(f"{path} holds images, which have no times: leave --fps {fps:g} away")
        yield from (_named(file, resize, frame, size, fit) for file, frame in pictures(path))
        return
    with opened(path) as (container, stream):
        decoded = Decoded(path, container, stream, keep_truncated)
        aspect = float(stream.sample_aspect_ratio or 1)
        for frame in (decoded if fps is None else _at_rate(decoded, fps)):
            yield _named(path, resize, frame, size, fit, aspect)
    if decoded.skipped:
        print(f"{path}: begins amid pictures that need others before them; taken from the first whole one on",
              file=sys.stderr)


def _named(path: Path, work: Callable[..., np.ndarray], *args: Any) -> np.ndarray:
    """What `work` makes; what it raises begins with the file's name."""
    try:
        return work(*args)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def _at_rate(decoded: Decoded, fps: float | int) -> Iterator[Any]:
    """At each k / fps the latest frame that had appeared by then."""
    shown, k = None, 0
    for frame in decoded:
        while shown is not None and k / fps < decoded.time - 1e-6:
            yield shown
            k += 1
        shown = frame
    if shown is not None and k / fps <= decoded.time + 1e-6:
        yield shown


def resize(frame: Any, size: tuple[int, int], fit: Fit, aspect: float = 1.0) -> np.ndarray:
    """An av.VideoFrame as uint8 (h w 3), turned upright, scaled and cropped or padded about its middle. aspect: width
    of its pixels by their height."""
    mirrored = _mirrored(frame)
    turns = round((frame.rotation or 0) / 90 + 2 * mirrored) % 4  # counter-clockwise, after the mirroring
    height, width = size if turns % 2 == 0 else size[::-1]
    scales = height / frame.height, width / (frame.width * aspect)
    if fit == "stretch":
        scaled = height, width
    else:
        scale = max(scales) if fit == "crop" else min(scales)
        scaled = (max(1, round(frame.height * scale)), max(1, round(frame.width * aspect * scale)))
    how = "AREA" if min(scales) < 1 else "BICUBIC"
    image = _centre(_rgb(frame, *scaled, how), height, width)
    return np.ascontiguousarray(np.rot90(image[:, ::-1] if mirrored else image, turns))


def _mirrored(frame: Any) -> bool:
    """Whether the file asks for a mirrored picture, of which `frame.rotation` tells no more than half."""
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return False
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].astype(np.int64)
    return bool(a * d - b * c < 0)


def _rgb(frame: Any, height: int, width: int, how: str) -> np.ndarray:
    import av

    if frame.colorspace == RESERVED:  # says nothing
        frame.colorspace = UNSPECIFIED
    try:
        return frame.reformat(width=width, height=height, format="rgb24", interpolation=how).to_ndarray()
    except (av.FFmpegError, ValueError) as error:
        raise DataError(f"its colours cannot be told (colour space {int(frame.colorspace)}, {error}): convert it "
                        "before, for instance to H.264 with bt709") from error


def _centre(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Cut or pad with black, evenly on both sides, to (height, width, 3)."""
    for axis, wanted in ((0, height), (1, width)):
        more = image.shape[axis] - wanted
        if more > 0:
            image = np.take(image, range(more // 2, more // 2 + wanted), axis)
        elif more < 0:
            before = -more // 2
            image = np.pad(image, [(before, -more - before) if a == axis else (0, 0) for a in range(3)])
    return image


class Mp4:
    """An h264 file that browsers play, written frame by frame, uint8 (h w 3). Odd sizes gain one row or column."""

    def __init__(self, path: Path, fps: float | int, crf: int = 12):
        self.path, self.fps, self.crf = path, fps, crf
        self.stream: Any = None

    def __enter__(self) -> "Mp4":
        import av

        self.container = av.open(f"file:{self.path}", "w", format="mp4", options={"movflags": "+faststart"})
        return self

    def add(self, frame: np.ndarray) -> None:
        import av

        frame = np.pad(frame, [(0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)], mode="edge")
        if self.stream is None:
            self.stream = self.container.add_stream("libx264", rate=Fraction(self.fps).limit_denominator(1000))
            self.stream.height, self.stream.width, self.stream.pix_fmt = *frame.shape[:2], "yuv420p"
            colours = "colormatrix=smpte170m:colorprim=smpte170m:transfer=smpte170m"
            self.stream.options = {"crf": str(self.crf), "preset": "veryfast", "x264-params": colours}
        self.container.mux(self.stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.stream is not None and kind is None:
            self.container.mux(self.stream.encode(None))
        self.container.close()


def encode_mp4(frames: np.ndarray, fps: float | int = 10, scale: int = 1, crf: int = 12) -> bytes:
    """uint8 (t h w c), c 1 or 3, to an h264 MP4 that browsers play.

    `scale` enlarges by whole pixels. From 2 on, the halved colour resolution that browsers ask for loses
    nothing: use it for small game frames. Odd sizes gain one row or column. DataError when there is no frame.
    """
    if len(frames) == 0:
        raise DataError("a video needs at least one frame, got none")
    frames = frames.repeat(scale, 1).repeat(scale, 2) if scale > 1 else frames
    frames = np.repeat(frames, 3, -1) if frames.shape[-1] == 1 else frames
    with tempfile.TemporaryDirectory() as folder:  # the index moves to the front, which needs a true file
        file = Path(folder) / "video.mp4"
        with Mp4(file, fps, crf) as video:
            for frame in frames:
                video.add(frame)
        return file.read_bytes()


def write_video(path: Path | str, frames: np.ndarray, fps: float | int = 10, scale: int = 1) -> None:
    """`encode_mp4` to a file, complete or absent."""
    data = encode_mp4(frames, fps, scale)
    with runs.atomic(Path(path)) as beside:
        beside.write_bytes(data)
