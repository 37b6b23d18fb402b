from pathlib import Path

import av
import numpy as np
import pytest
from making import cut_film, film, write_film

from wakedream.data.video import Mp4, encode_mp4, read_video, write_video
from wakedream.errors import DataError


def read(path, size=(48, 64), *args, **kw) -> np.ndarray:
    return np.stack(list(read_video(path, size, *args, **kw)))


def test_what_was_written_is_read(tmp_path):
    write_video(tmp_path / "a.mp4", film())
    got = read(tmp_path / "a.mp4")
    assert got.shape == film().shape
    assert got.dtype == np.uint8
    error = np.abs(got.astype(int) - film())
    assert error.mean() < 3
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_enlarged_small_frames_keep_their_colours():
    import io
    frames = np.random.default_rng(0).integers(0, 256, (3, 8, 10, 3), np.uint8)

    def error(scale: int) -> float:
        with av.open(io.BytesIO(encode_mp4(frames, scale=scale))) as container:
            assert container.streams.video[0].codec_context.pix_fmt == "yuv420p"
            shown = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])
        small = shown.reshape(3, 8, scale, 10, scale, 3).mean((2, 4))
        return float(np.abs(small - frames).mean())

    assert error(8) < 5 < 20 < error(1)


@pytest.mark.parametrize(("shape", "channels"), [((9, 11), 3), ((8, 8), 1)])
def test_odd_sizes_and_grey_frames_are_written(tmp_path, shape, channels):
    write_video(tmp_path / "a.mp4", np.full((2, *shape, channels), 99, np.uint8), fps=7.5)
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert float(container.streams.video[0].average_rate) == 7.5
    assert abs(int(read(tmp_path / "a.mp4", (8, 8)).mean()) - 99) < 3
    with pytest.raises(DataError, match="at least one frame"):
        encode_mp4(np.zeros((0, 8, 8, 3), np.uint8))


def test_crop_pad_and_stretch(tmp_path):
    path = write_film(tmp_path / "a.mp4", 2, height=32, width=64)  # green: left half
    green = {fit: read(path, (32, 32), fit)[0, ..., 1] > 100 for fit in ("crop", "pad", "stretch")}
    for fit, share in (("crop", 0.5), ("pad", 0.25), ("stretch", 0.5)):
        assert abs(green[fit].mean() - share) < 0.04, fit
    assert not green["pad"][:7].any()
    assert not green["pad"][-7:].any()
    assert green["pad"][10:22, 3].all()
    assert green["crop"][:, :14].all()
    assert read(path, (40, 24), "crop").shape == (2, 40, 24, 3)


@pytest.mark.parametrize(("fps", "count"), [(None, 30), (10, 30), (5, 15), (20, 59), (3, 9)])
def test_frame_rate(tmp_path, fps, count):
    got = read(write_film(tmp_path / "a.mp4"), fps=fps)
    assert len(got) == count
    red = got[:, 0, 40, 0].astype(int)
    times = np.arange(count) / (fps or 10)
    truth = film()[(times * 10 + 1e-6).astype(int), 0, 40, 0].astype(int)
    assert np.abs(red - truth).max() < 9


def test_a_turned_video_is_read_upright(tmp_path):
    upright = read(write_film(tmp_path / "a.mp4", 3), (64, 64), "stretch")
    with av.open(str(tmp_path / "a.mp4")) as source:
        packets = [p for p in source.demux(video=0) if p.dts is not None]
        with av.open(str(tmp_path / "turned.mp4"), "w") as target:
            stream = target.add_stream_from_template(source.streams.video[0])
            for packet in packets:
                packet.stream = stream
                target.mux(packet)
    data = (tmp_path / "turned.mp4").read_bytes()
    one, none = (1 << 16).to_bytes(4, "big"), bytes(4)
    straight = one + none + none + none + one + none + none + none + (1 << 30).to_bytes(4, "big")
    at = data.index(straight, data.index(b"tkhd"))
    quarter = none + one + none + (-(1 << 16)).to_bytes(4, "big", signed=True) + none * 4 + straight[-4:]
    (tmp_path / "turned.mp4").write_bytes(data[:at] + quarter + data[at + 36:])
    turned = read(tmp_path / "turned.mp4", (64, 64), "stretch")  # clockwise: the green left is above
    assert upright[0, :, :28, 1].min() > 100
    assert turned[0, :28, :, 1].min() > 100
    assert turned[0, 36:, :, 1].max() < 100


def test_what_is_no_video_is_told(tmp_path):
    (tmp_path / "text.mp4").write_text("not a video" * 99)
    (tmp_path / "empty.mp4").touch()
    whole = write_film(tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "index.mp4").write_bytes(whole[:40])
    with av.open(str(tmp_path / "sound.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
    for name, message in {"text.mp4": "not a video", "empty.mp4": "0 bytes", "index.mp4": "not a video",
                          "sound.wav": "no video stream", "none.mp4": "not a file"}.items():
        with pytest.raises(DataError, match=message):
            read(tmp_path / name)


@pytest.mark.parametrize("keep", [0.3, 0.7, 0.95])
def test_a_truncated_video_is_refused_with_what_was_read_or_kept_on_demand(tmp_path, keep):
    path = cut_film(tmp_path / "a.mp4", keep)
    with pytest.raises(DataError, match=r"breaks off after \d+ frames, \d\.\d s before its end .*--keep-truncated"):
        read(path)
    assert 0.2 * 60 < len(read(path, keep_truncated=True)) < 60


def test_a_video_without_frames_is_told(tmp_path):
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width = stream.height = 16
        stream.pix_fmt = "yuv420p"
        container.start_encoding()
    with pytest.raises(DataError, match=r"no frame|not a video"):
        read(tmp_path / "a.mkv")


def test_a_name_with_colons_is_written_as_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Mp4(Path("10:30:45.mp4"), 10) as video:
        for frame in film(3):
            video.add(frame)
    assert len(read(tmp_path / "10:30:45.mp4")) == 3


def test_a_video_that_may_not_be_read_is_not_said_to_be_none(tmp_path, monkeypatch):
    path = write_film(tmp_path / "a.mp4", 5)

    def refuse(*_, **__):
        raise av.error.PermissionError(13, "Permission denied", "a.mp4")

    monkeypatch.setattr(av, "open", refuse)
    with pytest.raises(DataError, match=r"a\.mp4 may not be read \(Permission denied\)") as refusal:
        read(tmp_path / "a.mp4")
    assert "not a video" not in str(refusal.value), path
