"""How training scales over the GPUs of one host: DDP and FSDP beside every GPU alone, in one run.

    torchrun --nproc-per-node 2 benchmarks/scaling.py --out scaling.json
    torchrun --nproc-per-node 2 benchmarks/scaling.py --preset debug --cases tokenizer agent --seconds 1  # CPUs too

For each case, in the order of the rows:

    alone          every process trains by itself, all at once, so that machine and clocks are alike: what one GPU does
    alone strong   the same with an N-th of the batch: what smaller batches cost by themselves
    ddp, fsdp      all train one model, each with a batch as `alone` had it (weak scaling)
    ddp strong     all share one such batch, an N-th each (strong scaling)

On GPUs `launched` rows record no CUDA graph: what they lose to recorded ones is lost to launching, not to
communication. The case `paper` is the dynamics preset `paper`, recomputed, alone and fsdp; `imagination` counts dreamed
frames. fsdp is not for agents: their parts are called one by one.

times one      frames/s of all over those of one process that trains alone with the whole batch (`alone`, the median
               over processes). Of `ddp strong` it says how many times sooner N GPUs make the steps of one; of `alone
               strong` how many times, had they nothing to tell each other: what that lacks of N is lost to what does
               not shrink with the batch (optimizer, kernels too small for a GPU), the rest to communication
linear         that over N
batch          of each process
NCCL, exposed  ms a step in NCCL's kernels, and of these ms in which nothing else runs on the GPU: the first process's
               profiler, over some steps apart from the timed ones. It includes waiting for a slower process

Batches are drawn and lie on the device: nothing is lost to data (`wakedream bench loader` measures what feeds it).
"""

import argparse
import datetime
import gc
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from wakedream.bench.machine import device_name
from wakedream.bench.timing import Peak, Spread, repeat, wait, warm_up
from wakedream.bench.training_step import agent_step, dynamics_step, imagination_step, training_step
from wakedream.presets.agent import IMAGINATIONS, agent_preset, imagination_preset
from wakedream.presets.dynamics import dynamics_preset
from wakedream.presets.tokenizer import tokenizer_preset
from wakedream.runs import write_json
from wakedream.training.config import TrainConfig
from wakedream.training.distributed import Place, join
from wakedream.training.peers import is_lost
from wakedream.training.stepper import Stepper

CASES = ("tokenizer", "dynamics", "paper", "agent", "imagination")
RECORDED = 16  # calls until every graph is recorded, DDP's too
REPEATS = 5
NEVER = float("inf")
HEAD = ("case", "way", "batch", "frames/s", "times one", "linear", "ms a step", "NCCL, ms", "exposed, ms",
        "memory, GiB")

Build = Callable[[Place, str, int], Stepper]  # place, parallel, batch of each process


@dataclass(frozen=True)
class Way:
    """How the processes train. strong: one batch for all; together: one model; recorded: as CUDA graphs."""

    name: str
    together: bool = False
    strong: bool = False
    recorded: bool = True
    parallel: str = "ddp"


ALONE, LAUNCHED, DDP = Way("alone"), Way("alone, launched", recorded=False), Way("ddp", True)
FSDP = Way("fsdp", True, parallel="fsdp")
WAYS = (ALONE, LAUNCHED, Way("alone strong", strong=True), DDP, Way("ddp, launched", True, recorded=False),
        Way("ddp strong", True, strong=True), FSDP)


@dataclass(frozen=True)
class Case:
    """build: a step of a process; batch: its rows, of so many frames each; ways: in which it is measured."""

    name: str
    build: Build
    batch: int
    frames: int
    ways: tuple[Way, ...] = WAYS


def cases(options: argparse.Namespace) -> Iterator[Case]:
    """Compiled where training would be."""
    name = options.preset

    def training(train: TrainConfig, parallel: str) -> TrainConfig:
        return replace(train, parallel=parallel, compile=options.compile or train.compile)

    def built(make: Callable[[Any, Place], Any], run: Any, place: Place, parallel: str, batch: int) -> Stepper:
        loader = replace(run.loader, batch_size=batch)
        return make(replace(run, loader=loader, train=training(run.train, parallel)), place)[0]

    def practice(place: Place, parallel: str, batch: int) -> Stepper:
        return imagination_step(name, agent, batch, dreams.sampling_steps, place)[0]

    if "tokenizer" in options.cases:
        eyes = tokenizer_preset(name)
        eyes = replace(eyes, objective=replace(eyes.objective, lpips_weight=0.0),  # its weights are not in the package
                       loader=replace(eyes.loader, length=options.length or eyes.loader.length))
        yield Case("tokenizer", partial(built, training_step, eyes), options.batch or eyes.loader.batch_size,
                   eyes.loader.length)
    if "dynamics" in options.cases:
        run = bootstrapping(dynamics_preset(name), options.length)
        yield Case("dynamics", partial(built, dynamics_step, run), options.batch or run.loader.batch_size,
                   run.loader.length)
    if "paper" in options.cases:
        run = dynamics_preset(options.paper_preset)
        length = options.paper_length
        run = replace(run, train=replace(run.train, recompute=True), loader=replace(
            run.loader, length=length, short=min(run.loader.short, length // 2)))
        yield Case("paper", partial(built, dynamics_step, run), options.paper_batch, length,
                   (ALONE, LAUNCHED, FSDP))
    agent = name if name in IMAGINATIONS else "crafter"
    dreams = imagination_preset(agent).objective
    if "agent" in options.cases:
        cloned = agent_preset(agent)
        yield Case("agent", partial(built, partial(agent_step, name), cloned), options.batch or
                   cloned.loader.batch_size, cloned.loader.length, WAYS[:-1])
    if "imagination" in options.cases:
        rollouts = options.rollouts or imagination_preset(agent).loader.batch_size
        yield Case("imagination", practice, rollouts, dreams.horizon, (ALONE, DDP))


def bootstrapping(run: Any, length: int | None) -> Any:
    """Its steps have bootstrap rows from the first, as most of its training has."""
    return replace(run, objective=replace(run.objective, bootstrap_from=0),
                   loader=replace(run.loader, length=length or run.loader.length))


def measured(case: Case, way: Way, place: Place, seconds: float) -> dict[str, Any]:
    """This process's numbers."""
    batch = max(1, case.batch // place.world_size) if way.strong else case.batch
    peak = Peak(place.device)
    step = case.build(place if way.together else Place(place.device), way.parallel, batch)
    if not way.recorded:
        step.warm_up = NEVER
    try:
        warm_up(step, place.device, RECORDED if step.records and way.recorded else None)
        times = timed(step, place, seconds)
        nccl, exposed = communication(step, place.device) if way.together else (0.0, 0.0)
        return {"frames": batch * case.frames, "times": times, "memory_gib": peak.gib(), "nccl_ms": nccl,
                "exposed_ms": exposed, "recorded": step.records and way.recorded}
    finally:
        step.close()


def timed(step: Stepper, place: Place, seconds: float) -> list[float]:
    """Seconds a step, some times. All processes make the same number of steps: where they train together none may stop
    before the others."""
    (once,) = repeat([step], place.device, 0.0, 2)
    (each,) = place.from_first(sorted(once)[0])
    calls = max(1, round(seconds / REPEATS / each))
    return [repeat_exactly(step, place, calls) for _ in range(REPEATS)]


def repeat_exactly(step: Stepper, place: Place, calls: int) -> float:
    place.agree(True)  # all begin at once

    def some() -> None:
        for _ in range(calls):
            step()

    wait(place.device)
    return warm_up(some, place.device, 1)[0] / calls


def communication(step: Stepper, device: torch.device, steps: int = 4) -> tuple[float, float]:
    """ms a step in NCCL's kernels, and in them alone."""
    if device.type != "cuda":
        return 0.0, 0.0
    with profile(activities=[ProfilerActivity.CUDA], acc_events=True) as seen:
        for _ in range(steps):
            step()
        wait(device)
    spans: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    for event in seen.events():
        if event.device_type == torch.autograd.DeviceType.CUDA and not getattr(event, "is_user_annotation", False):
            spans["nccl" in event.name.lower()].append((event.time_range.start, event.time_range.end))
    nccl, others = united(spans[True]), united(spans[False])
    return total(nccl) / 1000 / steps, (total(united(nccl + others)) - total(others)) / 1000 / steps


def united(spans: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """[(0, 2), (1, 3), (5, 6)] -> [(0, 3), (5, 6)]"""
    found: list[tuple[float, float]] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], end)
        else:
            found.append((start, end))
    return found


def total(spans: list[tuple[float, float]]) -> float:
    return sum(end - start for start, end in spans)


def row(case: Case, way: Way, place: Place, seconds: float) -> dict[str, Any]:
    """Of all processes. What fails, for want of memory or otherwise, fails in all of them, and the other rows go on."""
    own: dict[str, Any] = {}
    failed = ""
    try:
        own = measured(case, way, place, seconds)
    except RuntimeError as error:  # torch.OutOfMemoryError is one
        if is_lost(error):
            raise
        failed = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        if not isinstance(error, torch.OutOfMemoryError):
            traceback.print_exc()
    gc.collect()
    if place.device.type == "cuda":
        torch.cuda.empty_cache()
    everyone = [plain for _, plain in place.gather({}, {"failed": failed, **own})]
    about = {"case": case.name, "way": way.name, "processes": place.world_size}
    said = [one["failed"] for one in everyone if one["failed"]]
    if said:
        return {**about, "failed": said[0]}
    medians = [Spread.of(one["times"]).median for one in everyone]
    slowest, alone = max(medians), Spread.of(medians).median
    return {**about, "batch": own["frames"] // case.frames, "length": case.frames, "recorded": own["recorded"],
            "frames_per_second": sum(one["frames"] for one in everyone) / (slowest if way.together else alone),
            "ms_a_step": 1000 * (slowest if way.together else alone), "ms_a_step_of_each": [1000 * m for m in medians],
            "memory_gib": max(one["memory_gib"] or 0 for one in everyone),
            "nccl_ms": own["nccl_ms"], "exposed_ms": own["exposed_ms"]}


def told(found: dict[str, Any]) -> str:
    if "failed" in found:
        return f"| {found['case']} | {found['way']} | | {found['failed']} | | | | | | |"
    times, share = found.get("times_one"), found.get("linear")
    numbers = (f"{found['batch']}", f"{found['frames_per_second']:,.0f}", f"{times:.2f}" if times else "",
               f"{share:.3f}" if share else "", f"{found['ms_a_step']:.2f}", f"{found['nccl_ms']:.2f}",
               f"{found['exposed_ms']:.2f}", f"{found['memory_gib']:.2f}")
    return f"| {found['case']} | {found['way']} | {' | '.join(numbers)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES)
    parser.add_argument("--ways", nargs="+", choices=[way.name for way in WAYS], help="default: all that a case has")
    parser.add_argument("--preset", default="crafter", help="of tokenizer, dynamics model and agent")
    parser.add_argument("--batch", type=int, help="rows of each process (default: the preset's)")
    parser.add_argument("--length", type=int, help="frames of a row (default: the preset's)")
    parser.add_argument("--rollouts", type=int, help="of imagination, each process (default: the preset's)")
    parser.add_argument("--paper-preset", default="paper")
    parser.add_argument("--paper-batch", type=int, default=1)
    parser.add_argument("--paper-length", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement, apart from warming up")
    parser.add_argument("--compile", choices=("on", "off"), help="default: as training would")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with join(options.device) as place:
        about = {"device": device_name(place.device), "processes": place.world_size, "torch": str(torch.__version__),
                 "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds")}
        if place.writes:
            print(", ".join(str(value) for value in about.values()))
            print(f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}", flush=True)
        for case in cases(options):
            torch.compiler.reset()  # between cases alone: their ways share what is compiled
            alone = None
            for way in case.ways:
                if way.name not in (options.ways or [one.name for one in case.ways]):
                    continue
                if not way.recorded and place.device.type != "cuda":
                    continue  # nothing is recorded there
                found = row(case, way, place, options.seconds)
                if "failed" not in found:
                    if alone is None and not way.together and not way.strong:
                        alone = found["frames_per_second"]
                    found["linear"] = alone and found["frames_per_second"] / alone
                    found["times_one"] = alone and place.world_size * found["linear"]
                rows.append(found)
                if place.writes:
                    print(told(found), flush=True)
                    if options.out:
                        write_json(options.out, {"settings": {name: str(value) for name, value in
                                                              vars(options).items()}, "machine": about, "rows": rows})


if __name__ == "__main__":
    main()
