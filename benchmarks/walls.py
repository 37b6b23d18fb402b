"""What a change of the insides must not slow down: a training step, encoding, dreams, and how soon a second starts.

    PYTHONPATH=/path/to/old/checkout python benchmarks/walls.py --label before --out before.json
    PYTHONPATH=. python benchmarks/walls.py --label after --out after.json

Takes the package that PYTHONPATH names and asks only for what both have; where they differ it looks. Weights,
pictures and actions are drawn, so it needs no data. `--parts` and `--presets` divide it among calls; `--preset debug`
tries it on a CPU in seconds. `wakedream bench` measures the same with more about each row.
"""

import argparse
import copy
import functools
import gc
import inspect
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wakedream.bench.machine import device_name
from wakedream.bench.timing import Peak, Spread, repeat, wait, warm_up
from wakedream.data.actions import ActionComponent, ActionSpec
from wakedream.data.codec import CHUNK_FRAMES
from wakedream.device import pick_device
from wakedream.dynamics.clip import LatentClip
from wakedream.dynamics.dynamics import Dynamics
from wakedream.dynamics.encode import Encoder
from wakedream.dynamics.objective import DynamicsObjective
from wakedream.dynamics.rows import row_segments
from wakedream.presets.dynamics import dynamics_preset
from wakedream.presets.tokenizer import tokenizer_preset
from wakedream.stages.config import DynamicsRun
from wakedream.tokenizer.tokenizer import Tokenizer
from wakedream.training.distributed import Place, wrap
from wakedream.training.loop import begin
from wakedream.training.optim import build_optimizers
from wakedream.training.stepper import Stepper
from wakedream.world.model import World

KINDS = ("latents", "pictures")
PARTS = ("train", "encode", "dream", "start")
TOKENIZERS = {"coinrun": "crafter"}  # of the presets that have none of their own name
SPEC = ActionSpec((ActionComponent("action", "categorical", 17),))
BATCHES = {"cuda": (1, 64, 1024), "cpu": (1, 8)}
Row = dict[str, Any]


class Clips:
    """An endless iterator of the same few drawn clips, already on the device, with rows as the preset has them."""

    def __init__(self, run: DynamicsRun, device: torch.device, distinct: int = 4):
        self.position, self.clips = 0, [_clip(run).to(device) for _ in range(distinct)]

    def __iter__(self) -> "Clips":
        return self

    def __next__(self) -> LatentClip:
        self.position += 1
        return self.clips[self.position % len(self.clips)]

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.position = int(state["position"])


def _clip(run: DynamicsRun) -> LatentClip:
    shape = run.loader.batch_size, run.loader.length
    latents = torch.rand(*shape, run.model.num_latents, run.model.latent_dim) * 2 - 1
    actions, has_action = {"action": torch.randint(17, shape)}, torch.ones(shape, dtype=torch.bool)
    has_action[:run.loader.images] = False
    if "trajectory" not in inspect.signature(LatentClip).parameters:
        return LatentClip(latents, actions, has_action, row_segments(run.loader))
    from wakedream.data.trajectory import Trajectory

    return LatentClip(latents, Trajectory.of_actions(actions, has_action), row_segments(run.loader))


def train(preset: str, device: torch.device, options: argparse.Namespace) -> Iterator[Row]:
    """A step with the flow loss alone, then with bootstrap rows, of the preset's batch."""
    run = dynamics_preset(preset)
    if options.train_compile:
        run = replace(run, train=replace(run.train, compile=options.train_compile))
    torch.manual_seed(0)
    dynamics = Dynamics(run.model, SPEC)
    batch = {"batch_size": run.loader.batch_size} if "batch_size" in inspect.signature(
        DynamicsObjective).parameters else {}
    place, objective = Place(device), DynamicsObjective(dynamics, run.objective, **batch)
    peak = Peak(device)
    state = begin(objective, lambda model: build_optimizers(model, run.optim), Clips(run, device), run.train, place)
    step = Stepper(wrap(objective, run.train, place), state, run.train)
    for kind, first in (("flow", 0), ("bootstrap", run.objective.bootstrap_from)):
        state.step = first
        row = timed(step, device, options)
        assert objective.bootstraps == (kind == "bootstrap"), "a step of another kind was measured"
        yield {"part": "train", "preset": preset, "kind": kind, "batch": run.loader.batch_size,
               "length": run.loader.length, **row, "memory_gib": peak.gib()}


def encode(preset: str, device: torch.device, options: argparse.Namespace) -> Iterator[Row]:
    """Frames of 64 videos side by side, with their past and alone, as `train dynamics` encodes a data set."""
    tokenizer = drawn_tokenizer(preset, device)
    rows, config = options.encode_rows, tokenizer.config
    encoder = Encoder(tokenizer, rows, device)
    video = torch.randint(0, 256, (rows, CHUNK_FRAMES, *config.frame_size, config.channels), dtype=torch.uint8,
                          device=device)
    new = torch.zeros(rows, dtype=torch.bool, device=device)
    found = timed(lambda: encoder(video, new), device, options)
    yield {"part": "encode", "tokenizer": TOKENIZERS.get(preset, preset), "rows": rows, **found,
           "frames_per_second": rows * CHUNK_FRAMES / found["ms"] * 1e3}


def dream(preset: str, device: torch.device, options: argparse.Namespace) -> Iterator[Row]:
    """One frame of all rows, K = 4: in latents alone, and with pictures; as a CUDA graph on a GPU."""
    sizes = (1,) if preset == "paper" else options.batches or BATCHES[device.type]
    for batch in sizes:
        for compile in (False, True) if options.compile else (False,):
            for kind in KINDS:
                forget(device)
                about = {"part": "dream", "preset": preset, "kind": kind, "batch": batch, "compile": compile}
                try:
                    make, peak = maker(preset, kind, device), Peak(device)
                    made = make(batch_size=batch, sampling_steps=4, compile=compile)
                    found = timed(functools.partial(made.step, actions(batch)), device, options)
                    del make, made
                    yield about | found | {"frames_per_second": batch / found["ms"] * 1e3, "memory_gib": peak.gib()}
                except torch.OutOfMemoryError:
                    yield about | {"note": "out of memory"}


def start(preset: str, device: torch.device, options: argparse.Namespace) -> Iterator[Row]:
    """Until a dream has made its first frame: the first dream of a world, then further ones beside it."""
    for kind in KINDS:
        forget(device)
        make = maker(preset, kind, device)
        alive, found, memory = [], [], []
        for seed in range(4):
            before = allocated(device)
            wait(device)
            began = time.perf_counter()
            alive.append(make(batch_size=1, seed=seed))
            alive[-1].step(actions(1))
            wait(device)
            found.append((time.perf_counter() - began) * 1e3)
            memory.append((allocated(device) - before) / 2**20)
        yield {"part": "start", "preset": preset, "kind": kind, "first_ms": found[0], "second_ms": found[1],
               "further_ms": found[2:], "first_mib": memory[0], "second_mib": memory[1]}


def timed(work: Callable[[], object], device: torch.device, options: argparse.Namespace) -> Row:
    """Milliseconds of one call: median and spread of ten parts of the measuring time."""
    warm_up(work, device)
    (times,) = repeat([work], device, options.seconds, 10)
    spread = Spread.of(times)
    return {"ms": 1e3 * spread.median, "low_ms": 1e3 * spread.low, "high_ms": 1e3 * spread.high}


def drawn_tokenizer(preset: str, device: torch.device) -> Tokenizer:
    torch.manual_seed(0)
    return Tokenizer(tokenizer_preset(TOKENIZERS.get(preset, preset)).model).to(device).eval()


def maker(preset: str, kind: str, device: torch.device) -> Callable[..., Any]:
    """Of dreams of a world that nobody has dreamed of yet: nothing is kept for it."""
    world = copy.deepcopy(drawn_world(preset)).to(device)
    return world.dynamics.dream if kind == "latents" else world.dream


@functools.cache
def drawn_world(preset: str) -> World:
    tokenizer, dynamics = drawn_tokenizer(preset, torch.device("cpu")), Dynamics(dynamics_preset(preset).model, SPEC)
    dynamics.eval().shortcut.fill_(True)
    return World(tokenizer, dynamics)


def actions(batch: int) -> dict[str, Tensor]:
    return {"action": torch.zeros(batch, dtype=torch.int64)}


def allocated(device: torch.device) -> int:
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else 0


def forget(device: torch.device) -> None:
    """What the last row held."""
    torch.compiler.reset()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--label", default="", help="kept in the results: before, after")
    parser.add_argument("--presets", "--preset", nargs="+", default=["crafter", "coinrun"])
    parser.add_argument("--paper", action="store_true", help="dreams at the paper's scale too, batch 1")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--batches", nargs="+", type=int, help="dreams side by side; default: 1 64 1024, on a CPU 1 8")
    parser.add_argument("--compile", action="store_true", help="dreams with compiled layers too")
    parser.add_argument("--train-compile", choices=("auto", "on", "off"), help="default: the preset's")
    parser.add_argument("--encode-rows", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=3.0, help="measuring time of a row")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, help="a JSON file")
    options = parser.parse_args()
    device, rows, encoded = pick_device(options.device), [], set[str]()
    about = {"label": options.label, "device": device_name(device), "torch": str(torch.__version__),
             "date": time.strftime("%Y-%m-%d %H:%M")}
    print(json.dumps(about))
    for preset in [*options.presets, *["paper"] * options.paper]:
        for part in options.parts:
            tokenizer = TOKENIZERS.get(preset, preset)
            if (part == "encode" and tokenizer in encoded) or (preset == "paper" and part in ("train", "encode")):
                continue
            if part == "encode":
                encoded.add(tokenizer)
            forget(device)
            for row in globals()[part](preset, device, options):
                rows.append(row)
                print(json.dumps(shown(row)), flush=True)
                if options.out:  # row by row: what was measured stays
                    options.out.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")
        drawn_world.cache_clear()


def shown(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: shown(one) for name, one in value.items()}
    if isinstance(value, list):
        return [shown(one) for one in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


if __name__ == "__main__":
    main()
