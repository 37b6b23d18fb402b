"""Frames of a video file: all, or those of a stretch by their times, where many episodes lie in one file."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from wakedream.errors import DataError


def frames_at(path: Path, times: np.ndarray, rate: float) -> Iterator[Any]:
    """For each of the ascending times, in seconds, the av.VideoFrame nearest to it.

    Seeks to the first and reads on from there. DataError when the file is not whole, or has no frame within half a
    frame's time (1 / rate) of one of them.
    """
    count = 0
    with _opened(path) as (container, stream):
        if times[0] > 0:  # to the key frame before
            container.seek(int((times[0] - 0.5 / rate) / stream.time_base), stream=stream)
        for frame in _nearest(container.decode(stream), times):
            if abs(float(frame.time or 0) - times[count]) > 0.5 / rate or frame.is_corrupt:
                break
            count += 1
            yield frame
    if count < len(times):
        raise DataError(f"the video {path} has no frame at {times[count]:.3f} s, {count} of {len(times)} were found: "
                        "get it whole")


def frames_of(path: Path) -> Iterator[Any]:
    """All frames, as av.VideoFrame; DataError when they end in damage."""
    with _opened(path) as (container, stream):
        for count, frame in enumerate(container.decode(stream)):
            if frame.is_corrupt:
                raise DataError(f"the video {path} is damaged after {count} frames: get it whole")
            yield frame


def count_frames(path: Path) -> int:
    """Of the file's packets, none of which is decoded."""
    with _opened(path) as (container, stream):
        count = sum(1 for packet in container.demux(stream) if packet.size)
    if count == 0:
        raise DataError(f"the video {path} holds no frame")
    return count


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """The container and its stream of pictures; DataError for all that goes wrong with them."""
    import av

    if not path.is_file():
        raise DataError(f"the video {path} is missing: get it, or leave its episodes out with --skip-bad")
    try:
        with av.open(f"file:{path}") as container:  # else what stands before a colon in it were a protocol
            if not container.streams.video:
                raise DataError(f"{path} holds no video stream")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            yield container, stream
    except av.FFmpegError as error:
        raise DataError(f"the video {path} cannot be read ({error.strerror}): get it whole") from error


def _nearest(frames: Iterator[Any], times: np.ndarray) -> Iterator[Any]:
    """For each time the frame nearest to it."""
    before = after = next(frames, None)
    for time in times:
        while after is not None and float(after.time or 0) < time:
            before, after = after, next(frames, None)
        near = [frame for frame in (before, after) if frame is not None]
        if not near:
            return
        yield min(near, key=lambda frame: abs(float(frame.time or 0) - time))
