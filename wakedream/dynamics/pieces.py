"""Episodes cut into pieces that share batches, unpacked by threads ahead of their use."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from wakedream.data.codec import CHUNK_FRAMES
from wakedream.data.manifest import EpisodeInfo
from wakedream.data.store import Store

AHEAD = 4  # batches unpacked while the device works


@dataclass(frozen=True)
class Piece:
    """Frames start..stop-1 of an episode, at most CHUNK_FRAMES, in a row of a batch."""

    row: int
    info: EpisodeInfo
    start: int
    stop: int


@dataclass(frozen=True)
class Unpacked:
    """video: uint8 (b t h w c), meaningless beyond a piece's frames; new: bool (b), a row's episode begins here."""

    pieces: list[Piece]
    video: Tensor
    new: Tensor


def schedule(episodes: Sequence[EpisodeInfo], rows: int) -> Iterator[list[Piece]]:
    """Which pieces share a batch: a row walks through one episode, chunk by chunk, then takes the next that waits.

    Three episodes of 40, 16 and 20 frames in two rows:   0: 0-15, 1: 0-15 | 0: 16-31, 2: 0-15 | 0: 32-39, 2: 16-19
    """
    waiting = iter(episodes)
    current: list[Iterator[Piece]] = [iter(()) for _ in range(rows)]
    while True:
        pieces = []
        for row in range(rows):
            piece = next(current[row], None)
            if piece is None and (info := next(waiting, None)) is not None:
                current[row] = _cut(info, row)
                piece = next(current[row])
            if piece is not None:
                pieces.append(piece)
        if not pieces:
            return
        yield pieces


def unpacked(store: Store, episodes: Sequence[EpisodeInfo], rows: int, pool: ThreadPoolExecutor,
             pinned: bool) -> Iterator[Unpacked]:
    """The batches of `schedule` in order; DataError when an episode is damaged."""
    ahead: deque[tuple[Unpacked, list[Future]]] = deque()
    for pieces in schedule(episodes, rows):
        ahead.append(_begin(store, pieces, rows, pool, pinned))
        if len(ahead) > AHEAD:
            yield _finish(*ahead.popleft())
    while ahead:
        yield _finish(*ahead.popleft())


def _cut(info: EpisodeInfo, row: int) -> Iterator[Piece]:
    for start in range(0, info.frames, CHUNK_FRAMES):
        yield Piece(row, info, start, min(start + CHUNK_FRAMES, info.frames))


def _begin(store: Store, pieces: list[Piece], rows: int, pool: ThreadPoolExecutor,
           pinned: bool) -> tuple[Unpacked, list[Future]]:
    video = torch.empty(rows, CHUNK_FRAMES, *store.frame_shape, dtype=torch.uint8, pin_memory=pinned)
    new = torch.zeros(rows, dtype=torch.bool, pin_memory=pinned)
    new[[piece.row for piece in pieces if piece.start == 0]] = True
    pixels = video.numpy()
    reads = [pool.submit(store.video, piece.info.id, piece.start, piece.stop,
                         pixels[piece.row, :piece.stop - piece.start]) for piece in pieces]
    return Unpacked(pieces, video, new), reads


def _finish(batch: Unpacked, reads: list[Future]) -> Unpacked:
    for read in reads:
        read.result()
    return batch
