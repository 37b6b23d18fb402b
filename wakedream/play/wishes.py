"""What a visitor asks for, message by message."""

import asyncio
import json
import math
import secrets
from collections import deque
from typing import Any

from wakedream.play.hall import Context, Hall, Seat
from wakedream.play.twin import Twin

OFTEN = 240  # messages a second


class Visitor:
    """One page that is open: a seat, or a place in the queue."""

    def __init__(self, socket: Any):
        self.socket = socket
        self.seat: Seat | None = None
        self.token = secrets.token_urlsafe(12)  # who knows it may save, fork and begin this dream
        self.fork = ""  # the token of the dream that this one goes on from
        self.own: Context | None = None  # of a picture that the visitor gave
        self.twin: Twin | None = None
        self.out: asyncio.Queue[bytes | str | None] = asyncio.Queue()
        self.times = deque[float](maxlen=OFTEN)

    @property
    def sits(self) -> Seat:
        assert self.seat is not None
        return self.seat


class Wishes:
    """Messages to what the hall does; starts: contexts by number; env: the name of the real environment, or none."""

    def __init__(self, hall: Hall, starts: list[Context], env: str | None):
        self.hall, self.starts, self.env = hall, starts, env

    def hear(self, visitor: Visitor, text: str) -> str | None:
        """What is wrong with a message, if anything is."""
        try:
            said = json.loads(text)
        except ValueError:
            return "expected JSON"
        if not isinstance(said, dict) or not isinstance(said.get("do"), str):
            return 'expected an object with "do"'
        if visitor.seat is None:
            return "wait for a seat"
        does = getattr(self, f"_do_{said['do']}", None) if said["do"].isalpha() else None
        if does is None:
            return f"unknown: {said['do'][:40]}"
        try:
            does(visitor, said)
        except (KeyError, TypeError, ValueError) as error:
            return f"{said['do']}: {error}"
        self.hall.wake()
        return None

    def _do_keys(self, visitor: Visitor, said: dict[str, Any]) -> None:
        seat = visitor.sits
        held = said["held"]
        if not isinstance(held, list) or len(held) > 16 or not all(isinstance(code, str) for code in held):
            raise ValueError("expected held as a list of up to 16 names of keys")
        seat.held, seat.stamp = held, _finite(said.get("stamp", 0.0))

    def _do_seen(self, visitor: Visitor, said: dict[str, Any]) -> None:
        seat = visitor.sits
        seat.unseen = max(0, seat.unseen - 1)

    def _do_pause(self, visitor: Visitor, said: dict[str, Any]) -> None:
        visitor.sits.paused = bool(said["on"])

    def _do_single(self, visitor: Visitor, said: dict[str, Any]) -> None:
        visitor.sits.paused = visitor.sits.single = True

    def _do_speed(self, visitor: Visitor, said: dict[str, Any]) -> None:
        visitor.sits.speed = min(4.0, max(0.1, _finite(said["times"])))

    def _do_agent(self, visitor: Visitor, said: dict[str, Any]) -> None:
        if self.hall.rows.agent is None:
            raise ValueError("this world has no agent")
        visitor.sits.plays = bool(said["on"])

    def _do_rewind(self, visitor: Visitor, said: dict[str, Any]) -> None:
        seat = visitor.sits
        self.hall.order(seat, lambda: self.hall.rewind(seat))

    def _do_begin(self, visitor: Visitor, said: dict[str, Any]) -> None:
        seat = visitor.sits
        start, seed = said.get("start"), int(said.get("seed", 0))
        if not 0 <= seed < 2**62:
            raise ValueError("expected a seed from 0 to 2^62")
        if start == "real" and self.env:
            self.hall.makers.submit(self._beside, visitor, seat, seed)
            return
        if start == "own" and visitor.own is not None:
            context = visitor.own
        elif start is None:
            context = None
        elif isinstance(start, int) and 0 <= start < len(self.starts):
            context = self.starts[start]
        else:
            raise ValueError(f"start is {start!r}: expected 0 to {len(self.starts) - 1}, null, or 'own' after "
                             "a picture")
        self.hall.order(seat, lambda: self.hall.begin(seat, context, seed))

    def _beside(self, visitor: Visitor, seat: Seat, seed: int) -> None:
        """In a thread of its own, since making an environment takes a while."""
        with self.hall.told(seat):
            twin = visitor.twin = visitor.twin or Twin(self.env or "", self.hall.rows.world)
            self.hall.order(seat, lambda: self.hall.begin_beside(seat, twin, seed))
            if visitor.seat is not seat:  # gone meanwhile
                twin.close()


def _finite(given: Any) -> float:
    """ValueError for what is no finite number: JSON as Python reads it has others."""
    if not math.isfinite(number := float(given)):
        raise ValueError(f"expected a finite number, got {number}")
    return number
