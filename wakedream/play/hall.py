"""Where dreams are dreamed: one thread, one batch, a row for each visitor."""

import collections
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from wakedream.data.trajectory import Trajectory
from wakedream.errors import UserError
from wakedream.notation import Latents
from wakedream.play.keys import Controls
from wakedream.play.pictures import encoded
from wakedream.play.twin import Twin
from wakedream.world.rows import DreamRows

UNSEEN = 2  # frames on their way to a visitor, who has not shown them yet
BACK = 10  # seconds that can be taken back
FILM = 20  # seconds that can be saved


Context = tuple[Latents, Trajectory | None]  # of one dream: latents (1 t l e), and what led into them


@dataclass(eq=False)
class Seat:
    """A visitor's row and wishes. The server's thread sets them, the hall's reads them just before it computes."""

    row: int
    send: Callable[[dict[str, Any], bytes], None]
    held: list[str] = field(default_factory=list)
    stamp: float = 0.0  # the client's clock when it sent `held`
    paused: bool = False
    single: bool = False  # one frame, though paused
    speed: float = 1.0
    plays: bool = False  # the agent
    seed: int = 0
    frame: int = -1  # none yet
    unseen: int = 0
    due: float = 0.0
    twin: Twin | None = None  # the real environment, if this dream began with it
    orders: collections.deque[Callable[[], None]] = field(default_factory=collections.deque)
    past: collections.deque[tuple[int, Any, np.ndarray]] = field(default_factory=collections.deque)
    picture: np.ndarray = field(default_factory=lambda: np.zeros((1, 1, 3), np.uint8))  # the last one
    film: collections.deque[np.ndarray] = field(default_factory=collections.deque)  # and those before


class Hall:
    """`with Hall(rows, controls, fps) as hall: seat = hall.sit(send); seat.held = ["ArrowLeft"]; hall.wake()`

    send      called with what is known of a frame and its picture, from another thread
    threads   of a CPU, to compute with, as long as no other thread of the process has computed on several: OpenMP's
              would sleep between any two kernels. One core must stay free, or they wait for whatever else runs
    """

    def __init__(self, rows: DreamRows, controls: Controls, fps: float, threads: int | None = None):
        self.rows, self.controls, self.fps, self.threads = rows, controls, fps, threads
        self.seats: dict[int, Seat] = {}
        self.changed, self.stopped = threading.Condition(), False
        self.seconds = collections.deque[float](maxlen=100)  # of frames
        self.failed: BaseException | None = None
        self.encoders = ThreadPoolExecutor(2, thread_name_prefix="encode")
        self.makers = ThreadPoolExecutor(1, thread_name_prefix="environment")
        self.thread = threading.Thread(target=self._run, name="dream", daemon=True)

    def __enter__(self) -> "Hall":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self.changed:
            self.stopped = True
            self.changed.notify_all()
        self.thread.join()
        self.encoders.shutdown()
        self.makers.shutdown()

    @property
    def size(self) -> int:
        return self.rows.engine.rows

    def sit(self, send: Callable[[dict[str, Any], bytes], None]) -> Seat | None:
        """None where all seats are taken."""
        with self.changed:
            free = next((row for row in range(self.size) if row not in self.seats), None)
            if free is None:
                return None
            self.seats[free] = Seat(free, send)
            return self.seats[free]

    def leave(self, seat: Seat) -> None:
        with self.changed:
            if self.seats.get(seat.row) is seat:
                del self.seats[seat.row]

    def order(self, seat: Seat, what: Callable[[], None]) -> None:
        """Done in the hall's thread before the seat's next frame."""
        seat.orders.append(what)
        self.wake()

    def wake(self) -> None:
        with self.changed:
            self.changed.notify_all()

    def begin(self, seat: Seat, context: Context | None, seed: int) -> None:
        """In the hall's thread: the dream begins anew, after a context or from nothing, and its first frame is
        shown."""
        rows, seeds = torch.tensor([seat.row]), torch.tensor([seed])
        if context is None:
            self.rows.begin(rows, seeds)
        else:
            self.rows.begin(rows, seeds, *context, lead=context[0].shape[1])
        seat.twin = None
        seat.seed, seat.frame, seat.due = seed, 0, time.perf_counter() + 1 / self.fps
        seat.past.clear()
        self._show([seat], 0.0)

    def begin_beside(self, seat: Seat, twin: Twin, seed: int) -> None:
        """In the hall's thread: the real environment begins, and the dream with its first frame."""
        first = twin.begin(seed)
        self.begin(seat, self.context_of(first), seed)
        seat.twin = twin

    def context_of(self, picture: np.ndarray) -> Context:
        """In the hall's thread: one frame, uint8 (h w c), of which no action is known."""
        frame = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None, None]
        with torch.no_grad():
            return self.rows.world.tokenizer.encode(frame.to(self.rows.device)).float(), None

    def fork(self, seat: Seat, other: Seat) -> None:
        """In the hall's thread: the seat's dream goes on where the other's stands; from nothing if that has gone."""
        if self.seats.get(other.row) is not other or other.frame < 0:
            self.begin(seat, None, other.seed)
            return
        self.rows.load(seat.row, self.rows.state(other.row))
        seat.seed, seat.frame, seat.picture = other.seed, other.frame, other.picture
        self._hand(seat)

    def rewind(self, seat: Seat) -> None:
        """In the hall's thread: as far back as is kept."""
        if seat.past:
            seat.frame, state, seat.picture = seat.past[0]
            seat.twin = None  # that cannot go back
            seat.past.clear()
            self.rows.load(seat.row, state)
            self._hand(seat)

    def _run(self) -> None:
        try:
            if self.threads is not None:
                torch.set_num_threads(self.threads)
            self._warm()
            while self._wait():
                self._frames()
        except BaseException as error:  # the server tells it, and ends
            self.failed = error
            raise

    def _warm(self) -> None:
        """Frames that nobody sees: on GPUs kernels are made at their first use, which no visitor should wait for."""
        active = torch.arange(self.size, device=self.rows.device) == 0
        self.rows.begin(torch.tensor([0]), torch.tensor([0]))
        for _ in range(2):
            self.rows.pictures(active)
            self.rows.step(self._actions([]), active)
        if self.rows.agent is not None:
            self.rows.judged().cpu()

    def _wait(self) -> bool:
        """Until something is to be done."""
        with self.changed:
            while not self.stopped:
                now = time.perf_counter()
                seats = list(self.seats.values())
                if any(seat.orders for seat in seats) or any(self._ready(seat, now) for seat in seats):
                    return True
                waits = [seat.due - now for seat in seats if self._goes(seat)]
                self.changed.wait(max(0.0005, min(waits)) if waits else None)
        return False

    def _goes(self, seat: Seat) -> bool:
        return seat.frame >= 0 and (not seat.paused or seat.single) and seat.unseen < UNSEEN

    def _ready(self, seat: Seat, now: float) -> bool:
        return self._goes(seat) and now >= seat.due

    def _frames(self) -> None:
        began = time.perf_counter()
        with self.changed:
            seats = list(self.seats.values())
        for seat in seats:
            while seat.orders:
                with self.told(seat):
                    seat.orders.popleft()()
        seats = [seat for seat in seats if self._ready(seat, time.perf_counter())]
        if not seats:
            return
        for seat in seats:
            if seat.frame % max(1, round(self.fps)) == 0:
                seat.past.append((seat.frame, self.rows.state(seat.row), seat.picture))
                while len(seat.past) > BACK:
                    seat.past.popleft()
        active = self._active(seats)
        taken = self._actions(seats)
        stamps = {seat: seat.stamp for seat in seats}
        self.rows.step(taken, active)
        for seat in seats:
            seat.frame, seat.single = seat.frame + 1, False
            seat.due = max(seat.due + 1 / (self.fps * seat.speed), began)
        self._show(seats, time.perf_counter() - began, taken, stamps)

    def _actions(self, seats: list[Seat]) -> dict[str, torch.Tensor]:
        """What leads into the next frames: the keys held, read now, or what the agent chooses."""
        spec, rows = self.controls.spec, self.size
        taken = {c.name: c.zeros(rows) for c in spec.components}
        for seat in seats:
            for name, value in self.controls.actions(list(seat.held)).items():
                taken[name][seat.row] = value
        found = {name: torch.from_numpy(value) for name, value in taken.items()}
        own = [seat.row for seat in seats if seat.plays]
        if own:
            chosen = self.rows.chosen()
            for name, tensor in found.items():
                tensor[own] = chosen[name].cpu()[own].to(tensor.dtype)
        return found

    def _active(self, seats: list[Seat]) -> torch.Tensor:
        active = torch.zeros(self.size, dtype=torch.bool, device=self.rows.device)
        active[[seat.row for seat in seats]] = True
        return active

    def _show(self, seats: list[Seat], seconds: float, taken: dict[str, torch.Tensor] | None = None,
              stamps: dict[Seat, float] | None = None) -> None:
        """Pictures are encoded while the next frames are computed."""
        pictures = self.rows.pictures(self._active(seats))
        judged = None if self.rows.agent is None else self.rows.judged().cpu()
        if seconds:
            self.seconds.append(seconds)
        for seat in seats:
            about: dict[str, Any] = {"ms": round(1000 * seconds, 2), "stamp": (stamps or {}).get(seat, 0.0)}
            if taken is not None:
                about["action"] = {name: value[seat.row].tolist() for name, value in taken.items()}
            if judged is not None:
                about |= {"reward": round(float(judged.reward[seat.row]), 4),
                          "value": round(float(judged.value[seat.row]), 4),
                          "goes_on": round(float(judged.goes_on[seat.row]), 4)}
            seat.picture = pictures[seat.row]
            seat.film.append(seat.picture)
            while len(seat.film) > FILM * self.fps:
                seat.film.popleft()
            real = None
            if seat.twin is not None and taken is not None:
                with self.told(seat):
                    real = seat.twin.step({name: value[seat.row].numpy() for name, value in taken.items()})
                    about["over"] = seat.twin.over
            self._hand(seat, about, real)

    @contextlib.contextmanager
    def told(self, seat: Seat) -> Iterator[None]:
        """What a visitor's real environment raises ends that, is told, and is nobody else's trouble."""
        try:
            yield
        except UserError as error:
            seat.twin = None
            self._hand(seat, {"error": str(error)})

    def _hand(self, seat: Seat, more: dict[str, Any] | None = None, real: np.ndarray | None = None) -> None:
        """The seat's last picture, and what is known of it."""
        seat.unseen += 1
        about = {"frame": seat.frame, "seed": seat.seed, "agent": seat.plays, "ms": 0.0, "stamp": 0.0, **(more or {})}
        self.encoders.submit(_deliver, seat, about, seat.picture, real)


def _deliver(seat: Seat, about: dict[str, Any], picture: np.ndarray, real: np.ndarray | None) -> None:
    dreamed = encoded(picture)
    seat.send({**about, "bytes": len(dreamed)}, dreamed + (b"" if real is None else encoded(real)))
