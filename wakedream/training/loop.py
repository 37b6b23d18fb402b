"""The loop that trains every stage: batch, losses, balance, step, EMA, and what is due."""

import contextlib
import copy
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from wakedream.errors import Interrupted, RunError
from wakedream.training.balance import LossBalance
from wakedream.training.checkpoint import Checkpoints
from wakedream.training.clock import UNCOUNTED_STEPS, Clock
from wakedream.training.config import TrainConfig
from wakedream.training.distributed import Place, autocast, settle, shards, wrap
from wakedream.training.ema import Ema, copied
from wakedream.training.gradients import FiniteCheck
from wakedream.training.interrupt import Interruption
from wakedream.training.metrics import Check, Meter, Metrics
from wakedream.training.optim import highest_rate
from wakedream.training.peers import is_lost
from wakedream.training.schedule import progress
from wakedream.training.state import Batches, TrainState, generators, set_generators
from wakedream.training.stepper import Stepper

ECHO = 5.0  # seconds in which several processes get one signal by several ways
PATIENCE = 10  # steps in a row whose numbers are not finite


@runtime_checkable
class Objective(Protocol):
    """An nn.Module that turns a clip into named scalar losses; what DDP wraps. It may have `floors` of the balance,
    too, `idle` parts (distributed.py), and ask for several `updates` a step (stepper.py)."""

    @property
    def model(self) -> nn.Module: ...  # what is trained, averaged and saved (`save_within(folder)`)

    @property
    def weights(self) -> dict[str, float]: ...  # of the losses, once each has unit scale; 0: only logged

    @property
    def blocks(self) -> list[nn.Module]: ...  # the repeated layers: recomputed and sharded one by one

    @property
    def compiled(self) -> list[nn.Module]: ...  # what is compiled, each by itself: the blocks, and what else is large

    def prepare(self, step: int) -> Any: ...  # before each step: the name of its work; steps of one name do the same

    def __call__(self, clip: Any) -> dict[str, Tensor]: ...


Evaluate = Callable[[nn.Module], Check]  # the averaged model, in eval mode, to numbers and a picture


def fit(objective: Objective, make_optimizers: Callable[[nn.Module], list[torch.optim.Optimizer]], batches: Batches,
        config: TrainConfig, place: Place, folder: Path, frames_per_batch: int, evaluate: Evaluate | None = None,
        label: str = "training", claim: Callable[[], None] = lambda: None) -> TrainState:
    """Train until `config.steps` or `config.minutes`, going on from the folder's latest checkpoint.

    make_optimizers: of the model, once it is where it is trained. frames_per_batch: of this process. claim: makes the
    folder the run's; called in the process that writes, once the first step could be taken: what fails before leaves
    no trace. Raises Interrupted, after saving, when Ctrl-C or SIGTERM asked to stop, and RunError when numbers stay not
    finite.
    """
    state = begin(objective, make_optimizers, batches, config, place)
    checkpoints = Checkpoints(folder / "checkpoints", config.keep_checkpoints, place)
    resume(state, checkpoints, config.seed)
    if progress(state.step, state.elapsed, config) >= 1:
        if place.writes:
            print(f"the run in {folder} has finished, at step {state.step:,} after {state.elapsed / 60:.1f} minutes of "
                  "training; to prolong it raise --train.steps or --train.minutes beyond that")
        warn(state)
        return state
    step = Stepper(wrap(state.objective, config, place), state, config)
    frames = frames_per_batch * config.accumulate * place.world_size
    clock, saved, over = Clock(state.elapsed), state.elapsed, False
    interruption = Interruption(place.writes, ECHO if place.world_size > 1 else 0.0)
    with contextlib.ExitStack() as stack, interruption as asked, checkpoints:
        # a graph whose kernels wait for a process that is gone cannot be freed (distributed.join)
        stack.push(lambda _, error, trace: None if is_lost(error) else step.close())
        metrics = None
        while not over:
            before = state.step, state.frames
            step()
            if place.writes and metrics is None:
                claim()
                metrics = stack.enter_context(Metrics(folder, before[0], label, before[1]))
            if step.is_new:
                clock.uncounted = UNCOUNTED_STEPS
            state.frames += frames
            log, check, keep = (state.step % every == 0
                                for every in (config.log_every, config.evaluate_every, config.save_every))
            if log or check or keep:
                place.wait(lambda: asked.signal)  # the clock counts what the device has yet to do
            state.elapsed, stop, failed = place.from_first(clock.tick(), float(asked.signal or 0),
                                                           float(checkpoints.failed))
            if failed:
                checkpoints.wait()  # raises in all processes what went wrong in a thread
            done = progress(state.step, state.elapsed, config)
            finished = done >= 1
            over = finished or stop > 0
            if log or finished:
                record(metrics, state, frames, clock.lap())
            if evaluate and (check or finished):
                state.verdict = look(metrics, state, config, evaluate, checkpoints)
            if over or keep or state.elapsed - saved >= 60 * (config.save_minutes or math.inf):
                save(state, checkpoints)
                saved = state.elapsed
            if metrics:
                metrics.show(state.step, state.frames, done, (frames * clock.rate, left(state, config, clock.rate)))
            clock.skip()
    warn(state)
    if not finished:
        raise Interrupted(int(stop), f"stopped and saved at step {state.step}, the same command goes on")
    return state


def warn(state: TrainState) -> None:
    """The last check's verdict, where the model is no better than none."""
    if state.verdict and state.place.writes:
        print(f"warning: {state.verdict}", file=sys.stderr)


def left(state: TrainState, config: TrainConfig, rate: float) -> float:
    """Seconds of training, at so many steps a second (0: not known yet)."""
    by_steps = (config.steps - state.step) / rate if rate else math.inf
    return min(by_steps, 60 * config.minutes - state.elapsed if config.minutes else math.inf)


def begin(objective: Objective, make_optimizers: Callable[[nn.Module], list[torch.optim.Optimizer]], batches: Batches,
          config: TrainConfig, place: Place) -> TrainState:
    """The state before the first step, on this process's device."""
    averaged = copied(objective.model)
    host = copy.deepcopy(averaged) if shards(config, place) and place.writes else None
    settle(objective, averaged, config, place)  # type: ignore[arg-type]
    ema = Ema(objective.model, config.ema_decay, averaged, host)
    return TrainState(objective, make_optimizers(objective.model), ema,  # type: ignore[arg-type]
                      LossBalance(objective.weights, place.mean, getattr(objective, "floors", {})),
                      batches, FiniteCheck(place.device), Meter(), place)


def record(metrics: Metrics | None, state: TrainState, frames: int, steps_per_second: float) -> None:
    """Log the means since the last log; stop the run if its numbers stay not finite."""
    values = state.meter.read()
    skipped, in_a_row = int(state.finite.skipped), int(state.finite.in_a_row)
    if metrics:
        metrics.write("train", state.step, values | {
            "lr": highest_rate(state.optimizers), "skipped": skipped, "frames": state.frames,
            "elapsed": round(state.elapsed, 3),
            "frames_per_second": round(steps_per_second * frames, 1)} | state.place.memory())
    if in_a_row >= min(PATIENCE, state.step):
        losses = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        raise RunError(f"step {state.step}: the last {in_a_row} steps were not finite ({losses}). "
                       "The last checkpoint stays; lower --optim.lr, lengthen --train.warmup-steps "
                       "or use --train.precision float32")


def look(metrics: Metrics | None, state: TrainState, config: TrainConfig, evaluate: Evaluate,
         checkpoints: Checkpoints) -> str:
    """The first process evaluates the averaged weights, and keeps them if none were better before; training's random
    numbers stay what they would have been. The check's verdict."""
    before = generators(state.place.device)
    with state.ema.gathered(state.place.device) as model:  # all processes take part
        if metrics is None or model is None:
            return ""
        with torch.no_grad(), autocast(state.place.device, config.precision):
            result = evaluate(model)
        before_this = state.best if result.by == state.best_by else -math.inf
        if result.score is not None and result.score > before_this:
            state.best, state.best_by = result.score, result.by
            checkpoints.keep_best(model)
    set_generators(before, state.place.device)
    metrics.write("held_out", state.step, result.values)
    if result.picture is not None:
        metrics.picture(state.step, result.picture)
    return result.verdict


def save(state: TrainState, checkpoints: Checkpoints) -> None:
    """Training stands still for the copy alone."""
    values = state.state_dict()  # all processes take part, here and below
    with state.ema.gathered(torch.device("cpu")) as model:
        checkpoints.save(state.step, values, model)


def resume(state: TrainState, checkpoints: Checkpoints, seed: int) -> None:
    if state.place.writes:
        checkpoints.clean()
    path = checkpoints.latest() if state.place.writes else None
    (step,) = state.place.from_first(int(path.name.removeprefix("step_")) if path else -1)  # one answer for all
    if step >= 0:
        path = checkpoints.path(int(step))
        state.load_state_dict(checkpoints.load(path), seed)
        if state.place.writes:
            print(f"resuming at step {state.step} from {path}", file=sys.stderr)
