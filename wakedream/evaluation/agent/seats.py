"""Environments side by side, each at its own place in its own episode, in this process or in others."""

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np

from wakedream.environments.pixels import AnySize
from wakedream.environments.policies import Policy
from wakedream.environments.processes import Life, Processes, telling
from wakedream.environments.registry import environment, make_policy
from wakedream.errors import DataError
from wakedream.evaluation.agent.judged import Played

LONGEST = 100_000  # frames after which an episode is cut that nothing else ends
DOMAIN = 0xA6E27  # sets these worlds apart from those of recordings and of branching


@dataclass(frozen=True)
class Plan:
    """What is played in every seat. policy: of the registry, where one plays that needs the environment itself."""

    env_name: str
    size: AnySize
    policy: str | None
    seed: int
    max_frames: int | None


@dataclass(frozen=True)
class Begin:
    episode: int
    world: int


@dataclass(frozen=True)
class Step:
    action: Any


Order = Begin | Step
Answer = tuple[np.ndarray, Mapping[str, bool], Played | None]  # the frame, what has happened, the episode if it ended


@runtime_checkable
class Seats(Protocol):
    """`with take_seats(plan, 8, processes=2) as seats: seats.play({0: Begin(0, world), 3: Step(action)})`"""

    def play(self, orders: Mapping[int, Order]) -> dict[int, Answer]:
        """Answers by seat, in the order of the seats. DataError when an environment fails."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None: ...


def take_seats(plan: Plan, count: int, processes: int) -> Seats:
    """In this process if one is asked for, unless the environment leaves files where it runs."""
    beside = processes > 1 or environment(plan.env_name).litters
    return Beside(plan, count, min(processes, count)) if beside else Here(plan, count)


class Seat:
    """One environment, in which one episode after the other is played."""

    def __init__(self, plan: Plan, env: Any):
        self.plan, self.env = plan, env
        self.policy: Policy | None = None
        self.episode = 0

    def answer(self, order: Order) -> Answer:
        if isinstance(order, Begin):
            self.episode = order.episode
        with telling(self.plan.env_name, self.episode):
            return self._begin(order) if isinstance(order, Begin) else self._step(order.action)

    def _begin(self, order: Begin) -> Answer:
        self.world, self.total, self.length = order.world, 0.0, 0
        self.frame, info = self.env.reset(seed=order.world)
        self.events = dict.fromkeys(_events(info), False)  # nothing happened before the first frame
        if self.plan.policy is not None:
            rng = np.random.default_rng(np.random.SeedSequence([self.plan.seed, order.episode, DOMAIN]).spawn(1)[0])
            self.policy = make_policy(self.plan.policy, self.plan.env_name, self.env, rng)
        return self.frame, self.events, None

    def _step(self, action: Any) -> Answer:
        action = self.policy(self.frame) if self.policy else action
        self.frame, reward, terminated, truncated, info = self.env.step(action)
        self.length += 1
        if info.get("reward_known", True):
            self.total += float(reward)
        for name, came in _events(info).items():
            self.events[name] = self.events.get(name, False) or came
        cut = self.length + 1 >= (self.plan.max_frames or LONGEST)
        return self.frame, self.events, self._played(bool(terminated)) if terminated or truncated or cut else None

    def _played(self, terminated: bool) -> Played:
        if not math.isfinite(self.total):
            raise DataError(f"the sum of the rewards is {self.total}, expected finite rewards")
        return Played(self.episode, self.world, self.total, self.length, terminated, self.events)


class Here:
    """Seats in this process."""

    def __init__(self, plan: Plan, count: int):
        self.closing = contextlib.ExitStack()
        self.seats = list[Seat]()
        with contextlib.ExitStack() as made, telling(plan.env_name, None):
            for _ in range(count):
                self.seats.append(Seat(plan, environment(plan.env_name).make(plan.size)))
                made.callback(self.seats[-1].env.close)
            self.closing = made.pop_all()

    def play(self, orders: Mapping[int, Order]) -> dict[int, Answer]:
        return {seat: self.seats[seat].answer(orders[seat]) for seat in sorted(orders)}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.close()


class Beside(Processes):
    """Seats in processes of their own, each of which has a share of them and plays it in turn."""

    def __init__(self, plan: Plan, count: int, processes: int):
        shares = [share.tolist() for share in np.array_split(np.arange(count), processes)]
        super().__init__(plan.env_name, _serve, [(plan, share) for share in shares])
        self.connections = {seat: connection for share, (_, connection) in zip(shares, self.workers, strict=True)
                            for seat in share}

    def play(self, orders: Mapping[int, Order]) -> dict[int, Answer]:
        shares: dict[Any, dict[int, Order]] = {}
        for seat in sorted(orders):
            shares.setdefault(self.connections[seat], {})[seat] = orders[seat]
        for connection, share in shares.items():
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it has died: `receive` says of what
                connection.send(share)
        answers: dict[int, Answer] = {}
        for connection in shares:
            answers |= self.receive(connection)
        return answers


def _serve(task: tuple[Plan, list[int]], life: Life) -> None:
    plan, share = task
    seats = {seat: Seat(plan, life.make(plan.size)) for seat in share}
    while (orders := life.next()) is not None:
        life.connection.send({seat: seats[seat].answer(order) for seat, order in orders.items()})


def _events(info: Mapping[str, Any]) -> dict[str, bool]:
    """By name, whether it happened at this frame, or has happened by now."""
    reached = {name: count > 0 for name, count in info.get("achievements", {}).items()}
    return reached | {name: bool(came) or reached.get(name, False) for name, came in info.get("events", {}).items()}
