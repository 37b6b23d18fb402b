"""How encoding a data set scales over the GPUs of one host: all processes together, beside each of them alone.

    torchrun --nproc-per-node 2 benchmarks/encoding.py --out encoding.json
    torchrun --nproc-per-node 2 benchmarks/encoding.py --preset debug  # CPUs too

What is timed is what `wakedream train dynamics` does before its first step with a tokenizer whose latents of the data
set are not there yet: frames unpacked from the disk, encoded, latents written and measured. The data set is drawn.

    alone       every process encodes all of it into a folder of its own, all at once, so that machine and clocks are
                alike: what one GPU does
    together    all encode it once, each whole shards of it

frames/s        of all processes: alone they encode it N times, together once
times one       frames/s over those of one process alone
linear          that over the number of processes
encoding, measuring     seconds of the first process, waiting for the others included: until all shards are written, and
                until their mean and scale are known

The two take turns. The median over these counts, and in each turn the slowest process, or alone their median.
"""

import argparse
import contextlib
import datetime
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from wakedream import runs
from wakedream.bench.machine import device_name
from wakedream.bench.synthetic import scene
from wakedream.bench.timing import Spread
from wakedream.data.actions import ActionSpec
from wakedream.data.episode import Episode
from wakedream.data.shard import pack
from wakedream.data.store import Store, StoreWriter
from wakedream.dynamics.encode import Company
from wakedream.presets.tokenizer import tokenizer_preset
from wakedream.stages.dynamics import encoded
from wakedream.tokenizer.config import TokenizerConfig
from wakedream.tokenizer.tokenizer import Tokenizer
from wakedream.training.distributed import Place, join

FRAMES = {"cuda": 2**20, "cpu": 2**14}
EPISODE, DRAWN = 512, 16  # frames of an episode, and how many differ
WAYS = ("alone", "together")
PARTS = {"encoding": "encode its share", "measuring": "measure the latents"}  # as Company names them
HEAD = ("way", "frames/s", "times one", "linear", "seconds", "encoding, s", "measuring, s")


@dataclass
class Turn:
    """One process's seconds, and in which part of the work they went."""

    seconds: float = 0.0
    parts: dict[str, float] = field(default_factory=dict)


def make_data(path: Path, model: TokenizerConfig, frames: int) -> None:
    """Drawn scenes, some of them many times."""
    scenes = [scene(EPISODE, model.height, model.width, seed) for seed in range(DRAWN)]
    packed = [pack(Episode.of_video(video, source="drawn")) for video in scenes]
    with StoreWriter(path, ActionSpec(), frame_shape=(model.height, model.width, 3), held_out=0.0) as writer:
        for number in range(max(1, frames // EPISODE)):
            writer.add_packed(packed[number % DRAWN])


@contextlib.contextmanager
def folder_of_all(place: Place, within: Path | None) -> Iterator[Path]:
    """One for all processes, gone at the end."""
    with contextlib.ExitStack() as held:
        made = held.enter_context(tempfile.TemporaryDirectory(prefix="wakedream-encoding-", dir=within)
                                  ) if place.writes else ""
        yield Path(place.gather({}, made)[0][1])
        place.agree(True)  # nobody reads there any more


def turn(store: Store, tokenizer: Tokenizer, folder: Path, place: Place, everyone: Place) -> Turn:
    """Encode all of it, with the processes of `place`; all of them begin at once."""
    found, together = Turn(), Company.together

    @contextlib.contextmanager
    def clocked(company: Company, what: str) -> Iterator[None]:
        began = time.perf_counter()
        with together(company, what):
            yield
        found.parts[what] = time.perf_counter() - began

    with mock.patch.object(Company, "together", clocked):
        everyone.agree(True)
        began = time.perf_counter()
        encoded(store, tokenizer, folder, place)
        found.seconds = time.perf_counter() - began
    everyone.agree(True)
    if place.writes:
        runs.remove(folder)
    return found


def row(way: str, turns: list[Turn], frames: int, place: Place) -> dict[str, Any]:
    """Of all processes."""
    everyone = [seconds for _, seconds in place.gather({}, [one.seconds for one in turns])]
    whole = way == "together"
    seconds = Spread.of([max(each) if whole else Spread.of(each).median for each in zip(*everyone, strict=True)])
    parts = {name: Spread.of([one.parts[what] for one in turns]).median for name, what in PARTS.items()}
    return {"way": way, "processes": place.world_size, "frames": frames, "seconds": seconds.median,
            "frames_per_second": frames * (1 if whole else place.world_size) / seconds.median,
            "seconds_of_each": everyone, **parts}


def told(found: dict[str, Any]) -> str:
    numbers = (f"{found['frames_per_second']:,.0f}", f"{found['times_one']:.2f}", f"{found['linear']:.3f}",
               f"{found['seconds']:.2f}", f"{found['encoding']:.2f}", f"{found['measuring']:.2f}")
    return f"| {found['way']} | {' | '.join(numbers)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="crafter", help="of the tokenizer; its weights are as they are drawn")
    parser.add_argument("--frames", type=int, help=f"of the data set (default: {FRAMES['cuda']:,} on GPUs)")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--within", type=Path, help="where data and latents lie meanwhile (default: where the system "
                                                    "keeps what is temporary); 6 KiB a frame")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    model = tokenizer_preset(options.preset).model
    torch.manual_seed(0)
    tokenizer = Tokenizer(model)
    with join(options.device) as place, folder_of_all(place, options.within) as folder:
        about = {"device": device_name(place.device), "processes": place.world_size, "torch": str(torch.__version__),
                 "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds")}
        if place.writes:
            make_data(folder / "data", model, options.frames or FRAMES[place.device.type])
        place.agree(True)
        store = Store.open(folder / "data")
        frames = sum(info.frames for info in store.episodes)
        ways = {"alone": (Place(place.device), f"alone-{place.rank}"), "together": (place, "together")}
        turns: dict[str, list[Turn]] = {way: [] for way in WAYS}
        for way in ("together", *WAYS * options.turns):
            who, name = ways[way]
            turns[way].append(turn(store, tokenizer, folder / name, who, place))
        turns["together"].pop(0)  # it warmed up
        rows = [row(way, turns[way], frames, place) for way in WAYS]
        for found in rows:
            found["linear"] = found["frames_per_second"] / rows[0]["frames_per_second"]
            found["times_one"] = found["linear"] * place.world_size
        if place.writes:
            print(", ".join(str(value) for value in about.values()), f"{frames:,} frames", sep=", ")
            print(f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}", *map(told, rows), sep="\n", flush=True)
            if options.out:
                runs.write_json(options.out, {"settings": {name: str(value) for name, value in vars(options).items()},
                                              "machine": about, "rows": rows})


if __name__ == "__main__":
    main()
