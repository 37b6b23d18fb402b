"""Files that cameras, cutters and taggers leave: whole ones are read whole, in the right order and orientation."""

import io
import struct
from fractions import Fraction

import av
import numpy as np
import pytest
from making import film
from PIL import Image

from wakedream.data.video import encode_mp4, read_video, resize
from wakedream.errors import DataError


def write(path, times, container=None, **options):
    """40 + 4 i grey, shown from `times[i]` milliseconds on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format=container) as out:
        stream = out.add_stream("libx264", rate=10, options={"bf": "0", "preset": "ultrafast"} | options)
        stream.width = stream.height = 32
        stream.pix_fmt, stream.codec_context.time_base = "yuv420p", Fraction(1, 1000)
        for i, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 40 + 4 * i, np.uint8), format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def shades(path, **options):
    """Which of the frames written came, by their grey."""
    return [round((float(frame.mean()) - 40) / 4) for frame in read_video(path, (32, 32), **options)]


def test_frames_that_an_edit_list_hides_are_no_loss(tmp_path):
    """As cutting without encoding leaves it: the index has all frames, players show the last 18."""
    path = write(tmp_path / "trimmed.mp4", range(0, 3000, 100), g="6")
    data = bytearray(path.read_bytes())
    scales = [struct.unpack(">I", data[data.index(box) + 16:][:4])[0] for box in (b"mvhd", b"mdhd")]
    struct.pack_into(">Ii", data, data.index(b"elst") + 12, round(1.8 * scales[0]), round(1.2 * scales[1]))
    path.write_bytes(data)
    assert shades(path) == list(range(12, 30))


@pytest.mark.parametrize("name", ["a.mkv", "a.webm", "a.mp4"])
def test_frames_at_odd_times_are_all_there(tmp_path, name):
    """A screen recording: pictures come when something changes, one stays for 4 s."""
    times = [0, 40, 80, 1000, 1040, 5040, 5080, 5900, 6000, 9000]
    path = write(tmp_path / name, times, container="matroska" if name.endswith("webm") else None)
    assert shades(path) == list(range(10))
    assert shades(path, fps=1) == [0, 3, 4, 4, 4, 4, 8, 8, 8, 9]


@pytest.mark.parametrize(("times", "fps", "count"), [
    ([*range(0, 2000, 100), *range(36_000_000, 36_002_000, 100)], 10, 40),  # ten hours later
    ([*range(0, 2000, 100), *range(36_000_000, 36_002_000, 100)], None, 40),
    ([*range(0, 2000, 100), *range(8_000, 10_000, 100)], 10, 100)])  # a picture that stands for 6 s
def test_a_clock_that_was_set_repeats_nothing(tmp_path, times, fps, count):
    shown = shades(write(tmp_path / "a.mp4", times), fps=fps)
    assert len(shown) == count and shown == sorted(shown) and set(shown) == set(range(40))


def test_a_clock_that_begins_again_loses_nothing(tmp_path):
    """Two recordings in one stream, as `cat a.ts b.ts` makes it."""
    parts = [write(tmp_path / f"{name}.ts", range(0, 2000, 100), "mpegts").read_bytes() for name in "ab"]
    (tmp_path / "both.ts").write_bytes(b"".join(parts))
    assert shades(tmp_path / "both.ts", fps=10) == [*range(20)] * 2


def test_a_recording_joined_while_it_ran_is_taken_from_its_first_whole_picture_on(tmp_path, capsys):
    data = write(tmp_path / "whole.ts", range(0, 4000, 100), "mpegts", g="10", sc_threshold="0").read_bytes()
    (tmp_path / "joined.ts").write_bytes(data[188 * (len(data) // 188 // 3):])
    shown = shades(tmp_path / "joined.ts")
    assert shown == list(range(shown[0], 40)) and 0 < shown[0] <= 20
    assert "joined.ts: begins amid pictures" in capsys.readouterr().err


def cover(data: bytes) -> bytes:
    """With a picture in its tags, before the tracks; these end the file, so nothing else moves."""
    def box(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", 8 + len(content)) + kind + content

    picture = io.BytesIO()
    Image.new("RGB", (24, 24), (255, 0, 0)).save(picture, "JPEG")
    tags = box(b"ilst", box(b"covr", box(b"data", struct.pack(">II", 13, 0) + picture.getvalue())))
    meta = box(b"meta", bytes(4) + box(b"hdlr", bytes(8) + b"mdirappl" + bytes(9)) + tags)
    at = data.index(b"moov") - 4
    assert at > data.index(b"mdat")
    header = at + 8 + struct.unpack(">I", data[at + 8:at + 12])[0]
    more = box(b"udta", meta)
    size = struct.pack(">I", struct.unpack(">I", data[at:at + 4])[0] + len(more))
    return data[:at] + size + data[at + 4:header] + more + data[header:]


def test_a_cover_is_no_video(tmp_path):
    path = write(tmp_path / "film.mp4", range(0, 1000, 100))
    path.write_bytes(cover(path.read_bytes()))
    with av.open(str(path)) as container:
        assert len(container.streams.video) == 2
    assert shades(path) == list(range(10))
    with av.open(str(tmp_path / "song.mp4"), "w") as out:
        stream = out.add_stream("aac", rate=44100, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 44100
        out.mux([*stream.encode(sound), *stream.encode(None)])
    (tmp_path / "song.mp4").write_bytes(cover((tmp_path / "song.mp4").read_bytes()))
    with pytest.raises(DataError, match=r"no video stream, only .*a cover"):
        shades(tmp_path / "song.mp4")


ONE = 1 << 16


@pytest.mark.parametrize(("matrix", "expected"), [
    ((-ONE, 0, 0, ONE), lambda x: x[:, ::-1]), ((ONE, 0, 0, -ONE), lambda x: x[::-1]),
    ((0, ONE, ONE, 0), lambda x: x.transpose(1, 0, 2)), ((0, ONE, -ONE, 0), lambda x: np.rot90(x, -1)),
    ((-ONE, 0, 0, -ONE), lambda x: np.rot90(x, 2))])
def test_a_picture_is_turned_and_mirrored_as_the_file_asks(tmp_path, matrix, expected):
    """(x, y) goes to (a x + c y, b x + d y), down being positive (ISO 14496-12)."""
    video = film(3, 64)
    video[:, :16, :, 2] = 250
    (tmp_path / "a.mp4").write_bytes(encode_mp4(video))
    plain = np.stack(list(read_video(tmp_path / "a.mp4", (64, 64), "stretch")))[1]
    with av.open(str(tmp_path / "a.mp4")) as source, av.open(str(tmp_path / "b.mp4"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    data, (a, b, c, d) = (tmp_path / "b.mp4").read_bytes(), matrix
    straight = struct.pack(">9i", ONE, 0, 0, 0, ONE, 0, 0, 0, 1 << 30)
    at = data.index(straight, data.index(b"tkhd"))
    asked = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    (tmp_path / "b.mp4").write_bytes(data[:at] + asked + data[at + 36:])
    turned = np.stack(list(read_video(tmp_path / "b.mp4", (64, 64), "stretch")))[1]
    assert np.abs(turned.astype(int) - expected(plain)).mean() < 2 < np.abs(turned.astype(int) - plain).mean()


def test_pixels_that_are_no_squares_keep_the_picture_in_shape(tmp_path):
    """A disc of 64 x 64 stored in 32 columns is round again."""
    rows, columns = np.mgrid[:64, :32]
    disc = ((rows - 31.5) ** 2 + (2 * columns - 31) ** 2 < 24**2)[..., None].repeat(3, 2).astype(np.uint8) * 200
    with av.open(str(tmp_path / "a.mp4"), "w") as out:
        stream = out.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt, stream.sample_aspect_ratio = 32, 64, "yuv420p", Fraction(2, 1)
        out.mux([*stream.encode(av.VideoFrame.from_ndarray(disc, format="rgb24")), *stream.encode(None)])
    got = next(read_video(tmp_path / "a.mp4", (64, 64)))[..., 0] > 100
    assert got.any(0).sum() == pytest.approx(got.any(1).sum(), abs=3) and got.any(0).sum() == pytest.approx(48, abs=3)


def test_colours_tagged_as_nobody_knows_are_read_or_told():
    """3 is reserved and says nothing; 10 (BT.2020 with constant luminance) cannot be converted here."""
    frame = av.VideoFrame.from_ndarray(film(3, 64)[1], format="rgb24").reformat(format="yuv420p")
    plain = resize(frame, (64, 64), "crop")
    frame.colorspace = 3
    assert np.abs(resize(frame, (64, 64), "crop").astype(int) - plain).mean() < 8
    frame.colorspace = 10
    with pytest.raises(DataError, match="its colours cannot be told .colour space 10"):
        resize(frame, (64, 64), "crop")
