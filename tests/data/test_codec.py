import numpy as np
import pytest

from wakedream.data.codec import COLOUR, DELTA, NONE, _apply, _undo, decode_chunk, encode_chunk
from wakedream.errors import DataError


@pytest.mark.parametrize("kind", [NONE, DELTA, COLOUR])
@pytest.mark.parametrize("frames", [1, 2, 16])
def test_every_filter_is_reversible(kind, frames):
    video = np.random.default_rng(0).integers(0, 256, (frames, 5, 7, 3), np.uint8)
    filtered = np.frombuffer(_apply(kind, video).tobytes(), np.uint8)
    assert np.array_equal(_undo(kind, filtered, video.shape), video)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_chunk_comes_back(channels):
    video = np.random.default_rng(0).integers(0, 9, (16, 8, 8, channels), np.uint8)
    kind, data = encode_chunk(video)
    assert len(data) < video.nbytes
    assert np.array_equal(decode_chunk(kind, data, video.shape), video)


def test_each_filter_is_chosen_for_what_it_is_good_at():
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (64, 96, 3), np.uint8)
    scrolling = np.stack([picture[:32, t:t + 32] for t in range(16)])
    fading = picture[None, :32, :32] + np.arange(16, dtype=np.uint8)[:, None, None, None]
    flicker = np.repeat(rng.integers(0, 256, (16, 32, 32, 1), np.uint8), 3, -1) + fading
    assert [encode_chunk(v)[0] for v in (scrolling, fading, flicker)][::2] == [NONE, COLOUR]
    assert encode_chunk(fading)[0] != NONE


def test_no_flipped_byte_goes_unseen():
    video = np.random.default_rng(0).integers(0, 9, (4, 8, 8, 3), np.uint8)
    kind, data = encode_chunk(video)
    for position in range(len(data)):
        damaged = data[:position] + bytes([data[position] ^ 4]) + data[position + 1:]
        try:
            assert np.array_equal(decode_chunk(kind, damaged, video.shape), video)  # a bit without meaning
        except DataError:
            continue
