"""A video file as decoded frames: opened by any name, its pictures chosen, on a clock that never jumps."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from wakedream.errors import DataError

GAP = 10.0  # seconds: a clock that goes on further between two frames was set, or another recording begins


@contextmanager
def opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """The container and its stream of pictures; DataError for all that goes wrong with them.

    Cover art is no video; of several videos it is the one that players show.
    """
    import av

    with ExitStack() as stack:
        try:
            if not path.is_file():
                raise DataError(f"{path} is not a file: expected a video")
            if path.stat().st_size == 0:
                raise DataError(f"{path} is empty (0 bytes): expected a video")
            container = stack.enter_context(av.open(_source(path, stack)))
        except PermissionError as error:
            raise DataError(f"{path} may not be read ({error.strerror}): give yourself the permission") from error
        except (av.FFmpegError, OSError) as error:
            raise DataError(f"{path} is not a video that can be read, or its end with the index is missing "
                            f"({error.strerror})") from error
        kinds = av.stream.Disposition
        videos = [s for s in container.streams.video if not s.disposition & kinds.attached_pic]
        if not videos:
            others = ", ".join("a cover" if s.type == "video" else s.type for s in container.streams) or "nothing"
            raise DataError(f"{path} is not a video: it holds no video stream, only {others}")
        stream = next((s for s in videos if s.disposition & kinds.default), videos[0])
        stream.thread_type = "AUTO"
        try:
            yield container, stream
        except av.FFmpegError as error:
            raise DataError(f"the video {path} cannot be read ({error.strerror}): get it whole") from error


def _source(path: Path, stack: ExitStack) -> Any:
    """What PyAV is to open. Without `file:` what stands before a colon in a name were a protocol."""
    name = f"file:{path}"
    try:
        name.encode()
    except UnicodeEncodeError:  # bytes that are no UTF-8
        return stack.enter_context(open(path, "rb"))
    return name


class Decoded:
    """All frames of a file, in order; DataError at the end when it breaks off, unless `keep_truncated`.

    time     seconds from the first frame to the present one. Where the file's own clock goes back or on by more than
             `GAP`, this one goes on by a frame
    skipped  whether there was something before the first frame that could not be decoded: a recording that was joined
             while it ran begins amid pictures that need others
    """

    def __init__(self, path: Path, container: Any, stream: Any, keep_truncated: bool):
        self.path, self.container, self.stream, self.keep_truncated = path, container, stream, keep_truncated
        self.count, self.time, self.skipped = 0, 0.0, False
        self._step = 1 / float(stream.guessed_rate or stream.average_rate or 25)
        self._last: float | None = None  # by the file's clock
        self._amid: bool | None = None  # whether its first packet needs others before it
        self._jumped, self._longest = False, 0.0

    def __iter__(self) -> Iterator[Any]:
        broken = ""
        for frame, broken in self._attempts():
            begins = not broken and (frame.key_frame or not self.skipped)
            if self.count == 0 and not begins:
                self.skipped = True
                continue
            if broken:
                break
            self._tick(frame)
            yield frame
        if self.count == 0:
            raise DataError(f"{self.path} holds no frame that can be read ({broken or 'zero length'})")
        missing = self._missing()
        if not broken and missing:
            broken = "the file is shorter than it says"
        if broken and not self.keep_truncated:
            of = f", {missing:.1f} s before its end" if missing else ""
            raise DataError(f"{self.path} breaks off after {self.count} frames{of} ({broken}): get it whole, "
                            "or keep what could be read with `wakedream ingest --keep-truncated`")

    def _attempts(self) -> Iterator[tuple[Any, str]]:
        """A frame and "", or what is wrong with it, or with what should have become one."""
        import av

        packets = self.container.demux(self.stream)
        while True:
            try:
                packet = next(packets, None)
                if packet is None:
                    return
                frames = packet.decode()
            except av.FFmpegError as error:
                yield None, str(error.strerror)
                continue
            if self._amid is None:  # decoders say nothing of pictures that they leave out for it
                self._amid = packet.pts is not None and not packet.is_keyframe
            for frame in frames:
                self.skipped |= self.count == 0 and self._amid and bool(frame.key_frame)
                yield frame, "a damaged frame" if frame.is_corrupt else ""

    def _tick(self, frame: Any) -> None:
        now = frame.time
        if now is None:
            now = 0.0 if self._last is None else self._last + self._step
        if self._last is not None:
            step = now - self._last
            if 0 <= step <= GAP:
                self._longest = max(self._longest, step)
                self._step = step or self._step
                self.time += step
            else:
                self._jumped = True
                self.time += self._step
        self._last = now
        self.count += 1
        self._end = now + float((frame.duration or 0) * (frame.time_base or 0))

    def _missing(self) -> float:
        """Seconds between the last frame and the end that the file says it has; 0 if it does not say, or if the last
        frame may well be shown that long."""
        stream, alone = self.stream, len(self.container.streams) == 1
        if self._jumped:
            return 0.0
        if stream.duration:
            begin, length = (float((ticks or 0) * stream.time_base) for ticks in (stream.start_time, stream.duration))
        elif alone and self.container.duration:
            begin, length = (self.container.start_time or 0) / 1e6, self.container.duration / 1e6
        else:
            return 0.0
        missing = begin + length - self._end
        return missing if missing > max(2.5 * self._step, 2 * self._longest, length / 100) else 0.0


def frame_rate(path: Path) -> float | None:
    """Frames per second; None when the file does not say."""
    with opened(path) as (_, stream):
        rate = stream.average_rate or stream.guessed_rate
    return float(rate) if rate else None


def frames_at(path: Path, times: np.ndarray, rate: float) -> Iterator[Any]:
    """For each of the ascending times, in seconds, the av.VideoFrame nearest to it.

    Seeks to the first and reads on from there. DataError when the file is not whole, or has no frame within half a
    frame's time (1 / rate) of one of them.
    """
    count = 0
    with opened(path) as (container, stream):
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
    with opened(path) as (container, stream):
        yield from Decoded(path, container, stream, keep_truncated=False)


def count_frames(path: Path) -> int:
    """Of the file's packets, none of which is decoded."""
    with opened(path) as (container, stream):
        count = sum(1 for packet in container.demux(stream) if packet.size)
    if count == 0:
        raise DataError(f"the video {path} holds no frame")
    return count


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
