"""Device, precision, compilation and several processes, applied to models from outside."""

import atexit
import contextlib
import copy
import datetime
import functools
import json
import math
import os
import shutil
import sys
import time
import types
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from wakedream.device import pick_device
from wakedream.errors import ConfigError, OwnWarning
from wakedream.training.config import TrainConfig
from wakedream.training.peers import Peers, is_lost
from wakedream.training.shards import shard

RECOMPILES = 64  # of a layer's code: by kind, what it keeps, clip shape; the default of 8 is for whole models
PATIENCE = datetime.timedelta(days=7)
STUCK = 5.0  # seconds; torchrun leaves 30 from the signal on
MEETING = ("RANK", "MASTER_ADDR", "MASTER_PORT")  # what torch must know where there are several processes
LONG_MINUTES, LONG_STEPS = 2.0, 1000  # a CPU run longer than this earns back the time of compiling


@dataclass(frozen=True)
class Place:
    """Where this process computes, and what it shares with the others of its run."""

    device: torch.device
    rank: int = 0
    world_size: int = 1
    on_host: int = 1  # processes of each host, of consecutive ranks; 0: hosts differ

    @property
    def writes(self) -> bool:
        """Only one process writes files."""
        return self.rank == 0

    def mean(self, tensor: Tensor) -> Tensor:
        """Mean over processes; does not wait for the device."""
        if self.world_size == 1:
            return tensor
        tensor = tensor.clone()
        dist.all_reduce(tensor)
        return tensor / self.world_size

    def from_first(self, *values: float) -> tuple[float, ...]:
        """The first process's numbers, in all processes; through the host, the device is not waited for."""
        if self.world_size == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float64)
        dist.broadcast(tensor, 0)
        return tuple(tensor.tolist())

    def agree(self, value: bool) -> bool:
        """Whether all processes say so."""
        if self.world_size == 1:
            return value
        tensor = torch.tensor(int(value))
        dist.all_reduce(tensor, dist.ReduceOp.MIN)
        return bool(tensor)

    def patient_group(self) -> Any:
        """For `gather` where one process may wait hours for another: the run's own group gives up after 30 minutes. All
        processes ask for it together."""
        return dist.new_group(backend="gloo", timeout=PATIENCE) if self.world_size > 1 else None

    def group(self) -> Any:
        """For `gather` in another thread, beside what the main threads share. All processes ask for it together."""
        return dist.new_group(backend="gloo") if self.world_size > 1 else None

    def gather(self, tensors: dict[str, Tensor], plain: Any,
               group: Any = None) -> list[tuple[dict[str, Tensor], Any]]:
        """Every process's tensors (on the host) and plain values, in the order of ranks."""
        if self.world_size == 1:
            return [(tensors, plain)]
        message = torch.frombuffer(bytearray(save(tensors, {"plain": json.dumps(plain)})), dtype=torch.uint8)
        longest = torch.tensor([message.numel()])
        dist.all_reduce(longest, dist.ReduceOp.MAX, group)
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.world_size)]
        dist.all_gather(sizes, torch.tensor([message.numel()]), group)
        padded = torch.zeros(int(longest), dtype=torch.uint8)
        padded[: message.numel()] = message
        boxes = [torch.empty_like(padded) for _ in range(self.world_size)]
        dist.all_gather(boxes, padded, group)
        return [_unpack(box[: int(size)]) for box, size in zip(boxes, sizes, strict=True)]

    def memory(self) -> dict[str, float]:
        """The most GPU memory that tensors have taken so far; nothing on the CPU."""
        if self.device.type != "cuda":
            return {}
        return {"memory_gib": round(torch.cuda.max_memory_allocated(self.device) / 2**30, 2)}

    def wait(self, stopping: Callable[[], object] = bool) -> None:
        """For the device to finish what it was given; at most `STUCK` seconds once a stop is asked for, as torchrun
        does when a process has died: a kernel that waits for one that is gone does not end."""
        if self.device.type != "cuda":
            return
        if self.world_size == 1:
            torch.cuda.synchronize(self.device)
            return
        done, until = torch.cuda.current_stream(self.device).record_event(), math.inf
        while not done.query() and time.monotonic() < until:
            if stopping():
                until = min(until, time.monotonic() + STUCK)
            time.sleep(0.001)


def _unpack(message: Tensor) -> tuple[dict[str, Tensor], Any]:
    data = message.numpy().tobytes()
    size = int.from_bytes(data[:8], "little")
    return load(data), json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["plain"])


def _from_environment(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    if not text.isdecimal():
        raise ConfigError(f"{name} is '{text}' in the environment: expected a whole number; unset it to train in one "
                          "process, or use torchrun, which sets it")
    return int(text)


@contextlib.contextmanager
def join(device: str = "auto") -> Iterator[Place]:
    """This process's place; under torchrun, one of several that train together. ConfigError when the environment
    says that it is one of several, but not which, or not where they meet. When one of them ends, the others raise a
    RunError that says which."""
    world_size = _from_environment("WORLD_SIZE", 1)
    rank = _from_environment("RANK", 0) if world_size > 1 else 0
    missing = [name for name in MEETING if name not in os.environ]
    if world_size > 1 and missing:
        raise ConfigError(f"WORLD_SIZE is {world_size} in the environment, but {', '.join(missing)} "
                          f"{'is' if len(missing) == 1 else 'are'} not there: unset WORLD_SIZE to train in one "
                          "process, or start several with torchrun, which sets them all")
    if not 0 <= rank < world_size:
        raise ConfigError(f"RANK is {rank} in the environment and WORLD_SIZE {world_size}: expected a rank from 0 to "
                          f"{world_size - 1}; unset both to train in one process, or use torchrun, which sets them")
    local, on_host = _from_environment("LOCAL_RANK", 0), max(1, _from_environment("LOCAL_WORLD_SIZE", world_size))
    chosen = pick_device(device, local if world_size > 1 else None)
    if world_size == 1:
        yield Place(chosen)
        return
    dist.init_process_group("cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo")
    peers, stuck = Peers(rank, world_size), False
    try:
        alike = world_size % on_host == 0 and rank % on_host == local
        with _one_warns(rank):
            yield Place(chosen, rank, world_size, on_host if alike else 0)
    except BaseException as error:
        stuck = chosen.type == "cuda" and is_lost(error)
        left = peers.leave(error)
        if stuck:
            atexit.register(_end, left, error)
        raise left from error
    finally:
        peers.close()
        if not stuck:
            dist.destroy_process_group()


def _end(*held: BaseException) -> None:
    """Nothing is tidied up: NCCL and CUDA graphs would wait for kernels that wait for who is gone. What the errors hold
    is kept until here."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(2)


@contextlib.contextmanager
def _one_warns(rank: int) -> Iterator[None]:
    """The first process for all, but for what is another's own."""
    with warnings.catch_warnings():
        if rank > 0:
            warnings.simplefilter("ignore")
            warnings.simplefilter("default", OwnWarning)
        yield


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """bf16 where asked for and fast: GPUs, and CPUs with bf16 instructions."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=lowers(precision, device))


def lowers(precision: str, device: torch.device) -> bool:
    """Whether it is asked for and the device has it."""
    return precision == "bf16" and (device.type != "cpu" or _cpu_has_bf16())


def _cpu_has_bf16() -> bool:
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, probe, lambda: False)() for probe in probes)


def wrap(objective: nn.Module, config: TrainConfig, place: Place) -> nn.Module:
    """The objective as the loop calls it: its parts compiled, and its gradients shared over processes.

    What is compiled and recomputed is `forward`, not the call: FSDP's hooks stay outside of both.
    """
    if wants_compile(config, place.device):
        if place.writes:
            print("compiling: the first steps take a minute or two", file=sys.stderr, flush=True)
        torch._dynamo.config.recompile_limit = RECOMPILES  # beyond it `fullgraph` is an error
        for part in objective.compiled:  # type: ignore[union-attr]  # layers of a kind share their code
            part.forward = Instead(part, torch.compile(part.forward, fullgraph=True, dynamic=False))
    if config.recompute:
        for block in objective.blocks:  # type: ignore[union-attr]
            block.forward = Instead(block, recomputed(block.forward))
    if place.world_size == 1 or shards(config, place):
        return objective
    devices = [place.device] if place.device.type == "cuda" else None
    made_on = aside(place.device) if records(config, place) else contextlib.nullcontext()
    with made_on, warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch 2.13 renames an argument, 2.11 has no other
        return DistributedDataParallel(objective, device_ids=devices, broadcast_buffers=False)


class Instead:
    """What a module calls instead of its class's `forward`. It belongs to that module's weights, so a deep copy of the
    module has its class's own again."""

    def __init__(self, module: nn.Module, run: Callable[..., Any]):
        self.module, self.run = module, run

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.run(*args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Callable[..., Any]:
        return types.MethodType(type(self.module).forward, copy.deepcopy(self.module, memo))


def recomputed(forward: Callable[..., Any]) -> Callable[..., Any]:
    """Keeps its arguments alone; the backward pass computes the rest again. For layers that draw no random numbers:
    without their generators' states, which a CUDA graph cannot read, this can be recorded."""

    def run(*args: Any, **kwargs: Any) -> Any:
        return checkpoint(forward, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)

    return run


def settle(objective: nn.Module, averaged: nn.Module, config: TrainConfig, place: Place) -> None:
    """Objective and averaged model to this process's device, whole or in part; before optimizers are made, since
    parameters are replaced."""
    if shards(config, place):
        model, blocks = objective.model, objective.blocks
        names = {id(part): name for name, part in model.named_modules()}  # type: ignore[operator,union-attr]
        twins = [averaged.get_submodule(names[id(block)]) for block in blocks]  # type: ignore[union-attr]
        low = torch.bfloat16 if lowers(config.precision, place.device) else None
        copies = copies_of(config, place)
        shard(model, blocks, place.device, copies, low)  # type: ignore[arg-type]
        shard(averaged, twins, place.device, copies)  # it is kept in parts and computes nothing
    for module in (objective, averaged):
        module.to(place.device)


def shards(config: TrainConfig, place: Place) -> bool:
    return config.parallel != "ddp" and place.world_size > 1


def copies_of(config: TrainConfig, place: Place) -> int:
    """How many whole copies of the model the processes hold together, each in parts; ConfigError where hosts differ."""
    if config.parallel != "hsdp":
        return 1
    if not place.on_host:
        local, on_host = (os.environ.get(name) for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE"))
        raise ConfigError("--train.parallel hsdp splits the model over the processes of a host: expected equally many "
                          f"on each, ranks in a row, got LOCAL_WORLD_SIZE {on_host} and LOCAL_RANK {local} at RANK "
                          f"{place.rank} of {place.world_size}; start them with torchrun, as many on each host, or "
                          "choose fsdp")
    return place.world_size // place.on_host


def records(config: TrainConfig, place: Place) -> bool:
    """Whether steps are recorded as CUDA graphs: compiled ones, of a process that has the whole model."""
    return place.device.type == "cuda" and not shards(config, place) and wants_compile(config, place.device)


@functools.cache
def side_stream(device: torch.device) -> torch.cuda.Stream:
    """On which steps are warmed up and recorded, and DDP is made: where it was made it gathers gradients for good, and
    only a stream that takes part can be recorded."""
    return torch.cuda.Stream(device)


@contextlib.contextmanager
def aside(device: torch.device) -> Iterator[None]:
    """On the side stream, after all that the main stream has been given, and before what it is given next."""
    main, side = torch.cuda.current_stream(device), side_stream(device)
    side.wait_stream(main)
    with torch.cuda.stream(side):
        yield
    main.wait_stream(side)


def wants_compile(config: TrainConfig, device: torch.device) -> bool:
    if config.compile == "off":
        return False
    long = config.steps >= LONG_STEPS and (config.minutes is None or config.minutes > LONG_MINUTES)
    if config.compile == "auto" and device.type == "cpu" and not long:
        return False
    compiler = os.environ.get("CXX" if device.type == "cpu" else "CC")
    names = ("g++", "clang++") if device.type == "cpu" else ("gcc", "cc", "clang")
    if any(shutil.which(name) for name in (compiler, *names) if name):
        return True
    warnings.warn(f"no compiler found ({', '.join(names)}): training runs eagerly, which is slower. "
                  "Install one, or silence this with --train.compile off", stacklevel=2)
    return False


def only_shares(forward: nn.Module, last: bool) -> contextlib.AbstractContextManager[Any]:
    """Gradients are shared over processes in the last batch of a step only."""
    if isinstance(forward, DistributedDataParallel) and not last:
        return forward.no_sync()
    return contextlib.nullcontext()


def idle_weights(forward: nn.Module, objective: nn.Module) -> list[nn.Parameter]:
    """What this step's losses do not reach (`objective.idle`), where that matters: DDP waits for a gradient of every
    weight."""
    if not isinstance(forward, DistributedDataParallel):
        return []
    return [weight for part in getattr(objective, "idle", ()) for weight in part.parameters() if weight.requires_grad]
