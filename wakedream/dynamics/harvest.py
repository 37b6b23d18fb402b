"""Latents that come in pieces, put together to shards; each is written as soon as it is whole."""

from collections import Counter, deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from wakedream.data.manifest import shard_path
from wakedream.data.store import Store
from wakedream.dynamics.latents import Source, Span, not_finite, write_latents
from wakedream.dynamics.pieces import Piece

UNWRITTEN = 4  # whole shards that may wait for the disk


def spans(store: Store) -> list[Span]:
    """Where each episode of a data set lies among its latents: shard by shard, in the data set's order."""
    found, filled = [], Counter[int]()
    for info in store.episodes:
        found.append(Span(info.id, info.shard, filled[info.shard], info.frames))
        filled[info.shard] += info.frames
    return found


def sources(store: Store, tokenizer: str) -> dict[int, Source]:
    """What each shard of latents is made from, by number."""
    return {shard.number: Source(tokenizer, shard.sha256) for shard in store.manifest.shards}


class Harvest:
    """`take` what was made of each batch; at the end of the `with` all that became whole is on the disk."""

    def __init__(self, store: Store, folder: Path, tokenizer: str, shape: tuple[int, int]):
        """tokenizer: its fingerprint; shape: (l e) of a frame's latents."""
        self.store, self.folder, self.shape = store, folder, shape
        self._sources = sources(store, tokenizer)
        self._spans = {span.id: span for span in spans(store)}
        self._frames = Counter[int]()
        for span in self._spans.values():
            self._frames[span.shard] += span.frames
        self._left = Counter(self._frames)
        self._open: dict[int, Tensor] = {}  # float16 (2 frames l e)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="write")
        self._writing: deque[Future] = deque()

    def take(self, pieces: Sequence[Piece], both: Tensor, finite: Tensor) -> int:
        """Latents float16 (2 b t l e) and which frames' are finite, bool (b t), on the CPU; the number of frames.

        DataError when one is not finite.
        """
        for piece in pieces:
            length, span = piece.stop - piece.start, self._spans[piece.info.id]
            if not finite[piece.row, :length].all():
                first = piece.start + int((~finite[piece.row, :length]).nonzero()[0])
                raise not_finite(piece.info.id, first, f"of {self.store.path}")
            at, shard = span.start + piece.start, span.shard
            if shard not in self._open:
                self._open[shard] = torch.empty(2, self._frames[shard], *self.shape, dtype=torch.float16)
            self._open[shard][:, at:at + length] = both[:, piece.row, :length]
            self._left[shard] -= length
            if not self._left[shard]:
                self._write(shard)
        return sum(piece.stop - piece.start for piece in pieces)

    def _write(self, shard: int) -> None:
        latents, alone = self._open.pop(shard)
        self._writing.append(self._writer.submit(write_latents, shard_path(self.folder, shard), latents, alone,
                                                 self._sources[shard]))
        while len(self._writing) > UNWRITTEN:
            self._writing.popleft().result()

    def __enter__(self) -> "Harvest":
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        self._writer.shutdown(wait=True)
        if kind is None:
            for writing in self._writing:
                writing.result()
