"""Sizes and speeds of the store on a data set: `python benchmarks/data.py DATA`."""

import argparse
import time
from collections import Counter
from collections.abc import Callable

import numpy as np
import zstandard

from wakedream.data.codec import CHUNK_FRAMES, LEVEL, _apply, encode_chunk
from wakedream.data.loader import Loader
from wakedream.data.store import Store

NAMES = ("none", "delta", "colour")


def rate(work: Callable[[], int], seconds: float = 4.0) -> float:
    """Frames per second of `work`, which returns how many it did."""
    work()
    done, start = 0, time.perf_counter()
    while (passed := time.perf_counter() - start) < seconds:
        done += work()
    return done / passed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    store = Store.open(parser.parse_args().data)
    raw, frames, stored = store.manifest.raw_bytes, store.frames(), store.manifest.stored_bytes
    print(f"{frames:,} frames of {store.frame_shape}, raw {raw / frames:,.0f} bytes each; "
          f"stored {stored / frames:,.0f}, {stored / raw:.1%}")

    train = [info for info in store.split("train") if info.frames >= 32]
    video = np.concatenate([store.read(info.id).video for info in train[:8]])[:2048]
    chunks = [video[i:i + CHUNK_FRAMES] for i in range(0, len(video), CHUNK_FRAMES)]
    compressor = zstandard.ZstdCompressor(level=LEVEL)
    for kind, name in enumerate(NAMES):
        size = sum(len(compressor.compress(_apply(kind, chunk))) for chunk in chunks)
        print(f"filter {name:8} {size / len(video):8,.0f} bytes per frame")
    start = time.perf_counter()
    encoded = [encode_chunk(chunk) for chunk in chunks]
    speed = len(video) / (time.perf_counter() - start)
    counts = Counter(NAMES[kind] for kind, _ in encoded)
    size = sum(len(data) for _, data in encoded)
    print(f"best by chunk   {size / len(video):8,.0f} bytes per frame {dict(counts)}")
    print(f"compress, 1 thread  {speed:10,.0f} frames/s")

    rng = np.random.default_rng(0)
    for length in (16, 32):
        def read(length: int = length) -> int:
            info = train[rng.integers(len(train))]
            start = int(rng.integers(info.frames - length + 1))
            return len(store.read(info.id, start, start + length).video)

        print(f"read {length:3} at random  {rate(read):10,.0f} frames/s")
    for cache_gib in (0.0, 4.0):
        for workers in (1, 2):
            with Loader(store, batch_size=32, length=16, workers=workers, cache_gib=cache_gib) as loader:
                speed = rate(lambda loader=loader: next(loader).video.shape[0] * 16)  # type: ignore[misc]
            print(f"loader, cache {cache_gib:.0f} GiB, {workers} workers {speed:10,.0f} frames/s")


if __name__ == "__main__":
    main()
