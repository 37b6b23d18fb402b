"""Sizes and speeds of the store on a data set: `python benchmarks/data.py DATA`.

Speeds are frames per second of CPU time, all threads together, so that other work on the machine counts little;
the loader's also by the clock.
"""

import argparse
import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
import zstandard

from wakedream.data.codec import CHUNK_FRAMES, LEVEL, _apply, encode_chunk
from wakedream.data.loader import Loader
from wakedream.data.store import Store

NAMES = ("none", "delta", "colour")


def rate(work: Callable[[], int], seconds: float = 4.0) -> str:
    """Frames of `work`, which returns how many it did, per second of CPU time and by the clock, to print."""
    work()
    done, wall, cpu = 0, time.perf_counter(), time.process_time()
    while (passed := time.perf_counter() - wall) < seconds:
        done += work()
    return f"{done / (time.process_time() - cpu):10,.0f} {done / passed:10,.0f}"


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
    encoded = [encode_chunk(chunk) for chunk in chunks]
    counts = Counter(NAMES[kind] for kind, _ in encoded)
    size = sum(len(data) for _, data in encoded)
    print(f"best by chunk   {size / len(video):8,.0f} bytes per frame {dict(counts)}")
    print(f"{'frames per second':28} {'of CPU':>10} {'by clock':>10}")
    turn = itertools.cycle(chunks)

    def compress() -> int:
        chunk = next(turn)
        encode_chunk(chunk)
        return len(chunk)

    print(f"{'compress':28} {rate(compress)}")

    rng = np.random.default_rng(0)
    for length in (16, 32):
        def read(length: int = length) -> int:
            info = train[rng.integers(len(train))]
            start = int(rng.integers(info.frames - length + 1))
            return len(store.read(info.id, start, start + length).video)

        print(f"read {length} at random            {rate(read)}")
    for cache_gib, name in ((0.0, "batch by batch"), (64.0, "unpacked whole")):
        began = time.perf_counter()
        with Loader(store, batch_size=32, length=16, cache_gib=cache_gib) as loader:
            next(loader)
            first, used, batches = time.perf_counter() - began, time.thread_time(), itertools.count()

            def batch(loader: Loader = loader, batches: Iterator[int] = batches) -> int:
                next(batches)
                return next(loader).video.shape[0] * 16

            speed = rate(batch)
            each = (time.thread_time() - used) / next(batches) * 1e3
        print(f"{'loader, ' + name:28} {speed}   first after {first:.1f} s, main thread {each:.2f} ms a batch")


if __name__ == "__main__":
    main()
