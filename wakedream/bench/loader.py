"""How fast clips come: from a data set kept unpacked, unpacked by threads, and frames from compressed video."""

import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from wakedream.bench.config import BenchConfig
from wakedream.bench.machine import Machine
from wakedream.bench.result import Result
from wakedream.bench.synthetic import scene
from wakedream.bench.timing import Peak, Spread, repeat, warm_up
from wakedream.data.actions import ActionSpec
from wakedream.data.episode import Episode
from wakedream.data.loader import Loader
from wakedream.data.store import Store, StoreWriter
from wakedream.data.video import read_video, write_video

NAME = "loader"
EPISODE = 512  # frames of the episodes that are made
SHORT, FEW, MANY = 32, 200, 50_000  # frames of short episodes, and how many: a window must cost the same
VIDEO = 360, 640  # height, width


def loader(config: BenchConfig, machine: Machine) -> Iterator[Result]:
    """Clips of a data set, then frames of a video at its own size and as small training frames."""
    with tempfile.TemporaryDirectory(prefix="wakedream-bench-") as folder:
        store = Store.open(config.data or make_data(Path(folder, "data"), config.loader_frames))
        for resident in (True, False):
            yield _clips(store, resident, config, machine)
        short = Store.open(make_data(Path(folder, "short"), FEW * SHORT, SHORT))
        for count in (FEW, MANY):
            yield _clips(repeated(short, count), False, config, machine)
        video = Path(folder, "video.mp4")
        write_video(video, scene(config.video_frames, *VIDEO, seed=0), fps=30)
        for size in (VIDEO, (64, 64)):
            yield _video(video, size, config)


def make_data(path: Path, frames: int, episode: int = EPISODE) -> Path:
    """A data set of drawn scenes of 64x64, all of it for training."""
    with StoreWriter(path, ActionSpec(), frame_shape=(64, 64, 3), held_out=0.0) as writer:
        for start in range(0, frames, episode):
            length = min(episode, frames - start)
            writer.add(Episode.of_video(scene(length, 64, 64, seed=start), source="drawn"))
    return path


def repeated(store: Store, count: int) -> Store:
    """`count` episodes that share the bytes of those that there are, so that very many are made at once."""
    there = store.manifest.episodes
    episodes = tuple(replace(there[i % len(there)], id=i) for i in range(count))
    return Store(store.path, replace(store.manifest, episodes=episodes))


def _clips(store: Store, resident: bool, config: BenchConfig, machine: Machine) -> Result:
    batch_size, length = (config.batch_sizes or (32,))[0], config.length or 16
    workers = config.workers or min(8, os.cpu_count() or 1)
    device, peak, began = machine.device, Peak(machine.device), time.perf_counter()
    with Loader(store, batch_size=batch_size, length=length, device=device, workers=workers, prefetch=8,
                cache_gib=1e6 if resident else 0.0) as source:
        warm_up(lambda: next(source), device, config.warmup)
        ready = time.perf_counter() - began
        (times,) = repeat([lambda: next(source)], device, config.seconds, config.repeats)
        memory = peak.gib()
    seconds = Spread.of(times)
    rate = batch_size * length / seconds.median
    settings = {"from": "unpacked whole" if resident else "unpacked by threads",
                "data": "drawn scenes" if config.data is None else config.data.name,
                "episodes": len(store.episodes), "frame": "x".join(map(str, store.frame_shape)), "batch": batch_size,
                "length": length, "workers": workers}
    raw, stored = store.manifest.raw_bytes, store.manifest.stored_bytes
    note = f"{rate / length:,.0f} clips/s; first batches after {ready:.1f} s; stored at {stored / raw:.1%} of raw"
    return Result(NAME, settings, "batch", seconds, batch_size * length, memory_gib=memory,
                  notes=(note, *_shortfall(rate, config.need)),
                  more={"clips_per_second": rate / length, "ready_seconds": ready, "stored_share": stored / raw})


def _video(path: Path, size: tuple[int, int], config: BenchConfig) -> Result:
    """A repeat is the whole file: rates by the clock, and per second of CPU time, all threads together."""
    times, cpu = [], []
    for _ in range(min(config.repeats, 3) + 1):
        began, used = time.perf_counter(), time.process_time()
        frames = sum(1 for _ in read_video(path, size))
        times.append((time.perf_counter() - began) / frames)
        cpu.append((time.process_time() - used) / frames)
    seconds, core = Spread.of(times[1:]), Spread.of(cpu[1:])  # the first opened the libraries
    settings = {"from": "video 360x640 (H.264)", "frame": f"{size[0]}x{size[1]}x3"}
    note = f"{1 / core.median:,.0f} frames/s per core"
    return Result(NAME, settings, "frame", seconds, notes=(note, *_shortfall(1 / seconds.median, config.need)),
                  more={"frames_per_second_per_core": 1 / core.median})


def _shortfall(rate: float, need: float | None) -> list[str]:
    """By how much a source feeds or fails what training asks for."""
    if need is None:
        return []
    if rate >= need:
        return [f"feeds {need:,.0f} frames/s {rate / need:.1f} times over"]
    return [f"falls short of {need:,.0f} frames/s by {need - rate:,.0f}: {rate / need:.1%} of what is asked for"]
