"""What makes one frame after the other: its options, and how one set of caches and graphs serves many in turns."""

import weakref
from collections.abc import Callable, Collection, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn

from wakedream.errors import ConfigError
from wakedream.model.fp8 import check_fp8
from wakedream.model.frozen import FROZEN, Shared, shared_copy
from wakedream.model.given import Given, tensor_of
from wakedream.model.graph import Recorded

RECOMPILATIONS = 256  # each layer has a cache of its own, each shape of stream its own code
BUILT = 6  # sets of caches and graphs that are kept for one copy of a model
Model = TypeVar("Model", bound=nn.Module)


@dataclass(frozen=True)
class FrameByFrame:
    """The options that everything has which makes one frame after the other, checked.

    model, rows     what they are called in errors: "tokenizer", "streams"
    precision       of the weights: by default bf16 on a GPU, on a CPU the model's own; fp8: of layers' products alone
    graph           each frame is a CUDA graph (default: on a GPU)
    compile         layers are compiled first
    """

    model: str
    rows: str
    device: torch.device
    batch_size: int
    precision: str | None = None
    graph: bool | None = None
    compile: bool = False

    def __post_init__(self) -> None:
        size = self.batch_size
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise ConfigError(f"batch_size is {size!r}: expected the number of {self.rows}, 1 or more")
        if self.graph and self.device.type != "cuda":
            raise ConfigError(f"graph=True records a CUDA graph, but the {self.model} is on '{self.device}': move it "
                              "first, with .cuda(), or leave graph out")
        if self.precision not in (None, *FROZEN):
            raise ConfigError(f"precision is {self.precision!r}: expected 'float32', 'bf16', 'fp8' or None")
        if self.precision == "fp8":
            check_fp8(self.device)

    def shared(self, model: Model, output: Collection[str]) -> Shared[Model]:
        """The copy for inference as the options say; see `shared_copy`."""
        precision = self.precision or ("bf16" if self.device.type == "cuda" else None)
        return shared_copy(model, precision, output, self.compile)

    def recorded(self, step: Callable[..., Any], state: Sequence[Tensor]) -> Callable[..., Any]:
        """The step, which goes on from `state`, as a CUDA graph where the options say so."""
        graph = self.device.type == "cuda" if self.graph is None else self.graph
        return Recorded(step, state) if graph else step

    @torch.inference_mode(False)  # a ring of inference tensors could not be changed outside of that mode
    @torch.no_grad()
    def run(self, step: Callable[..., Any], *inputs: Tensor) -> Any:
        limits: Any = torch._dynamo.config.patch(recompile_limit=RECOMPILATIONS) if self.compile else nullcontext()
        with limits, torch.autocast(self.device.type, enabled=False):
            return step(*inputs)

    def rows_given(self, given: Given | None) -> Tensor | None:
        """`rows`, bool (b), on the device; None stays None, for all. ValueError for anything else."""
        if given is None:
            return None
        rows = tensor_of(given, "rows")
        if rows.dtype != torch.bool or rows.shape != (self.batch_size,):
            raise ValueError(f"rows are chosen by bool ({self.batch_size},), one truth for each row, got {rows.dtype} "
                             f"{tuple(rows.shape)}")
        return rows.to(self.device)


def computed(active: Tensor) -> int:
    """How many rows, from the first on, are worth computing: up to the last that is active. On a GPU all are, since to
    look would wait for it, and a graph takes them all."""
    if active.device.type != "cpu":
        return len(active)
    return max(1, int(active.nonzero()[-1]) + 1 if active.any() else 1)


def filled(part: Tensor, rows: int) -> Tensor:
    """The first rows (n ...), and zeros for the others."""
    return part if len(part) == rows else torch.cat([part, part.new_zeros(rows - len(part), *part.shape[1:])])


@runtime_checkable
class Seat(Protocol):
    """What is kept for a model: caches and graphs, in which one at a time goes on."""

    def state(self) -> Any: ...  # all that says where it stands, as a copy
    def load(self, state: Any) -> None: ...
    def reset(self) -> None: ...


class Turns:
    """`seat` serves whoever takes its turn: what the one before had there is put aside for it.

    Two that go on side by side cost a copy of their caches each time they change places; one alone, nothing.
    """

    def __init__(self, seat: Seat):
        self.seat = seat
        self._sitting: weakref.ref[Any] | None = None

    def take(self, guest: "Guest") -> Any:
        sitting = self._sitting() if self._sitting else None
        if sitting is not guest:
            if sitting is not None:
                sitting._aside = self.seat.state()
            if guest._aside is None:
                self.seat.reset()
            else:
                self.seat.load(guest._aside)
            guest._aside, self._sitting = None, weakref.ref(guest)
        return self.seat


class Guest:
    """One of those that take turns in caches and graphs that are made once for a model and its options."""

    _aside: Any = None
    _turns: Turns
    _copy: Shared

    def _share(self, shared: Shared, key: Any, make: Callable[[], Any]) -> None:
        if key not in shared.built:
            while len(shared.built) >= BUILT:
                del shared.built[next(iter(shared.built))]
            shared.built[key] = Turns(make())
        self._copy, self._turns = shared, shared.built[key]
        shared.users.add(self)

    @property
    def _seat(self) -> Any:
        return self._turns.take(self)


def check_state(state: Any, kind: type, whose: Any) -> None:
    """ValueError unless the state is of this kind, as `state()` gives it."""
    if not isinstance(state, kind):
        raise ValueError(f"load: expected what `{type(whose).__name__}.state()` gave, got {type(state).__name__}")


def forked(own: int, wanted: int | None) -> int:
    """How many rows a fork of `own` has: so many of one, as many of more. ValueError for others."""
    count = own if wanted is None else wanted
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise ValueError(f"fork({wanted!r}): expected at least 1, the number of rows that go on from here")
    if own not in (1, count):
        raise ValueError(f"fork({wanted}) of {own} rows side by side: one row becomes any number, {own} become {own}, "
                         "with fork()")
    return count
