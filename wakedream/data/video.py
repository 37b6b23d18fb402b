"""Video files: read any that PyAV reads, write ones that browsers play."""

import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np

from wakedream import runs
from wakedream.errors import DataError

Fit = Literal["crop", "pad", "stretch"]


def read_video(path: Path | str, size: tuple[int, int], fit: Fit = "crop", fps: float | int | None = None,
               keep_truncated: bool = False) -> Iterator[np.ndarray]:
    """Frames uint8 (h w 3) of `size` (height, width), upright, at `fps` or as they come.

    DataError when it is no video, holds no frame, or (after its last readable frame) breaks off early, unless
    `keep_truncated`. At another frame rate, frames are left out or repeated, never mixed.
    """
    import av

    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path} is not a file: expected a video")
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty (0 bytes): expected a video")
    try:
        container = av.open(str(path))
    except av.FFmpegError as error:
        raise DataError(f"{path} is not a video that can be read, or its end with the index is missing "
                        f"({error.strerror})") from error
    with container:
        if not container.streams.video:
            others = ", ".join(s.type for s in container.streams) or "nothing"
            raise DataError(f"{path} is not a video: it holds no video stream, only {others}")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        decoded = _Decoded(path, container, stream, keep_truncated)
        for frame in (decoded if fps is None else _at_rate(decoded, fps)):
            yield resize(frame, size, fit)


class _Decoded:
    """The frames of a stream with their times in seconds; notices when they end too soon."""

    def __init__(self, path: Path, container: Any, stream: Any, keep_truncated: bool):
        self.path, self.container, self.stream, self.keep_truncated = path, container, stream, keep_truncated
        self.rate = float(stream.average_rate or stream.guessed_rate or 25)
        self.count, self.time = 0, 0.0

    def __iter__(self) -> Iterator[Any]:
        import av

        broken, first = "", None
        try:
            for frame in self.container.decode(self.stream):
                if frame.is_corrupt:
                    broken = "a damaged frame"
                    break
                time = frame.time if frame.time is not None else self.count / self.rate
                first = time if first is None else first
                self.time = time - first
                self.count += 1
                yield frame
        except av.FFmpegError as error:
            broken = str(error.strerror)
        if self.count == 0:
            raise DataError(f"{self.path} holds no frame that can be read ({broken or 'zero length'})")
        expected = self._expected()
        if not broken and self.count < expected - max(2, expected // 100):
            broken = "the file is shorter than it says"
        if broken and not self.keep_truncated:
            of = f" of about {expected}" if expected else ""
            raise DataError(f"{self.path} breaks off after {self.count} frames{of} ({broken}): get it whole, "
                            "or keep what could be read with --keep-truncated")

    def _expected(self) -> int:
        """Frames that the file says it has; 0 if it does not say."""
        if self.stream.frames:
            return int(self.stream.frames)
        alone = len(self.container.streams) == 1
        return int(self.container.duration / 1e6 * self.rate) if alone and self.container.duration else 0


def _at_rate(decoded: _Decoded, fps: float | int) -> Iterator[Any]:
    """At each k / fps the latest frame that had appeared by then."""
    shown, k = None, 0
    for frame in decoded:
        while shown is not None and k / fps < decoded.time - 1e-6:
            yield shown
            k += 1
        shown = frame
    if shown is not None and k / fps <= decoded.time + 1e-6:
        yield shown


def resize(frame: Any, size: tuple[int, int], fit: Fit) -> np.ndarray:
    """An av.VideoFrame as uint8 (h w 3), turned upright, scaled and cropped or padded about its middle."""
    turns = round((getattr(frame, "rotation", 0) or 0) / 90) % 4  # counter-clockwise
    height, width = size if turns % 2 == 0 else size[::-1]
    aspect = float(frame.sample_aspect_ratio or 1) if hasattr(frame, "sample_aspect_ratio") else 1.0
    scales = height / frame.height, width / (frame.width * aspect)
    if fit == "stretch":
        scaled = height, width
    else:
        scale = max(scales) if fit == "crop" else min(scales)
        scaled = (max(1, round(frame.height * scale)), max(1, round(frame.width * aspect * scale)))
    how = "AREA" if min(scales) < 1 else "BICUBIC"
    image = frame.reformat(width=scaled[1], height=scaled[0], format="rgb24", interpolation=how).to_ndarray()
    return np.ascontiguousarray(np.rot90(_centre(image, height, width), turns))


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

        self.container = av.open(str(self.path), "w", format="mp4", options={"movflags": "+faststart"})
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
