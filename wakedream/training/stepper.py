"""One optimizer step: recorded once as a CUDA graph where a GPU has the whole model, else launched kernel by kernel."""

import copy
import dataclasses
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from wakedream.runs import deferred_signals
from wakedream.training.config import TrainConfig
from wakedream.training.distributed import aside, autocast, idle_weights, only_shares, records, side_stream
from wakedream.training.gradients import clip_and_guard
from wakedream.training.optim import set_rates
from wakedream.training.schedule import learning_rate_scale, progress
from wakedream.training.state import TrainState

WARM_UP = 2  # steps before recording: they compile, and allocate what stays (optimizer state, workspaces)
DDP_WARM_UP = 11  # of all works together: DDP orders its buckets in the second, and times itself in the first ten


@dataclass(eq=False)
class Work:
    """Steps that do the same, which one graph serves. clips: where it reads."""

    warmed: int = 0
    graph: torch.cuda.CUDAGraph | None = None
    clips: list[Any] = field(default_factory=list)


class Stepper:
    """`stepper()` draws `config.accumulate` batches and makes one optimizer step. Never waits for the device.

    A step of a small model is some thousand kernels that take less time than launching them. A graph launches
    them at once, from fixed memory: clips are copied into place, rates and the like are tensors that are filled.
    Everything that a step changes, it changes in place. Of several processes that have the whole model each (DDP) all
    record the same steps, with what they exchange, since work is named by the step alone. `close` it before they part.
    """

    def __init__(self, forward: nn.Module, state: TrainState, config: TrainConfig):
        self.forward, self.state, self.config = forward, state, config
        self.records = records(config, state.place)
        self.stream = side_stream(state.place.device) if self.records else None
        self.warm_up: float = DDP_WARM_UP if isinstance(forward, DistributedDataParallel) else 0  # inf: never record
        self.warmed = 0
        self.works: dict[Any, Work] = {}  # by what `objective.prepare` calls it
        self.is_new = False  # the last step was the first of its work here: it may have compiled

    def __call__(self) -> None:
        state, config = self.state, self.config
        clips = [next(state.batches) for _ in range(config.accumulate)]
        set_rates(state.optimizers,
                  learning_rate_scale(state.step, progress(state.step, state.elapsed, config), config))
        state.ema.prepare(state.step)
        name = state.objective.prepare(state.step)  # type: ignore[operator]
        self.is_new = name not in self.works
        work = self.works.setdefault(name, Work())
        if not self.records:
            self._step(clips)
        elif work.warmed < WARM_UP or self.warmed < self.warm_up:
            self._warm_up(work, clips)
        else:
            self._replay(work, clips)
        state.step += 1

    def _warm_up(self, work: Work, clips: list[Any]) -> None:
        """Off the main stream, as recording wants it."""
        with aside(self.state.place.device):
            self._step(clips)
        work.warmed += 1
        self.warmed += 1

    def _replay(self, work: Work, clips: list[Any]) -> None:
        if work.graph is None:
            work.clips = copy.deepcopy(clips)
            self._record(work)
        for kept, clip in zip(work.clips, clips, strict=True):
            for old, new in zip(_tensors(kept), _tensors(clip), strict=True):
                assert old.shape == new.shape, (old.shape, new.shape)  # what was recorded has one shape
                old.copy_(new, non_blocking=True)
        work.graph.replay()  # type: ignore[union-attr]

    def _record(self, work: Work) -> None:
        """All works use the same memory, one after the other: nothing in it outlives a step."""
        pool = next((other.graph.pool() for other in self.works.values() if other.graph is not None), None)
        graph = torch.cuda.CUDAGraph()
        # thread_local: threads that load data meanwhile pin and allocate memory
        with deferred_signals(), torch.cuda.graph(graph, pool=pool, stream=self.stream,
                                                  capture_error_mode="thread_local"):
            self._step(work.clips)
        work.graph = graph

    def close(self) -> None:
        """NCCL does not end while a graph has kernels of its own."""
        for work in self.works.values():
            if work.graph is not None:
                work.graph.reset()
        self.works.clear()

    def _step(self, clips: list[Any]) -> None:
        for _ in range(getattr(self.state.objective, "updates", 1)):  # an objective may ask for several
            self._update(clips)

    def _update(self, clips: list[Any]) -> None:
        state, config, model = self.state, self.config, self.state.objective.model
        idle = idle_weights(self.forward, state.objective)
        for index, clip in enumerate(clips):
            with only_shares(self.forward, last=index == len(clips) - 1):
                with autocast(state.place.device, config.precision):
                    losses = self.forward(clip)
                total = state.balance(losses) / len(clips)
                for weight in idle:
                    total = total + 0 * weight.sum()
                total.backward()
        for weight in idle:
            weight.grad = None  # as in one process
        values = state.balance.update()
        norm, finite = clip_and_guard(model.parameters(), config.clip_norm, values["loss"])  # type: ignore[union-attr]
        for optimizer in state.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        state.ema.update(model)  # type: ignore[arg-type]
        state.finite.add(finite)
        state.meter.add({**values, "grad_norm": norm})


def _tensors(clip: Any) -> list[Tensor]:
    """All tensors of a clip: a tensor, or a dataclass of tensors and of tensors by name."""
    if isinstance(clip, Tensor):
        return [clip]
    if isinstance(clip, dict):
        return [tensor for value in clip.values() for tensor in _tensors(value)]
    if dataclasses.is_dataclass(clip):
        return [tensor for field in dataclasses.fields(clip) for tensor in _tensors(getattr(clip, field.name))]
    assert clip is None, type(clip)
    return []
