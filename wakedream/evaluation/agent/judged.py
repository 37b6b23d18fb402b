"""What a policy did in the real environment, episode by episode. Needs no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from wakedream.config import suggest

RETURN, LENGTH, EVENTS = MEANS = ("return", "length", "events")  # measures beside the events' own names


@dataclass(frozen=True)
class Played:
    """One episode: `length` counts actions, `total` is the sum of the rewards that are known."""

    episode: int
    seed: int
    total: float
    length: int
    terminated: bool
    events: Mapping[str, bool]


@dataclass(frozen=True)
class Judged:
    """n episodes, in the order of their numbers.

    returns     sums of the known rewards;  lengths     actions that were taken
    terminated  the episode truly ended; where not, it was cut (time limit)
    events      by name, whether it happened in the episode; an event that was not told did not happen. One that is
                called like a measure of all has "event " before its name
    seeds       of the worlds, by which the environment was reset
    films       the first episodes' frames, uint8 (t h w c), of as many as were asked for
    """

    environment: str
    returns: Float[np.ndarray, " n"]
    lengths: Int[np.ndarray, " n"]
    terminated: Bool[np.ndarray, " n"]
    events: Mapping[str, Bool[np.ndarray, " n"]]
    seeds: Int[np.ndarray, " n"]
    films: tuple[UInt8[np.ndarray, "_ h w c"], ...] = field(default=(), repr=False)

    @classmethod
    def of(cls, environment: str, played: Sequence[Played], films: Sequence[np.ndarray] = ()) -> "Judged":
        played = sorted(played, key=lambda one: one.episode)
        names = sorted(set[str]().union(*(one.events for one in played)))
        return cls(environment, np.array([one.total for one in played], np.float64),
                   np.array([one.length for one in played], np.int64),
                   np.array([one.terminated for one in played], bool),
                   {f"event {name}" if name in MEANS else name:
                    np.array([one.events.get(name, False) for one in played], bool) for name in names},
                   np.array([one.seed for one in played], np.int64), tuple(films))  # fmt: skip

    @property
    def truncated(self) -> Bool[np.ndarray, " n"]:
        return ~self.terminated

    def measure(self, name: str) -> Float[np.ndarray, " n"]:
        """Of each episode: "return", "length", "events" (how many different ones happened), or an event (0 or 1).

        ConfigError for another name.
        """
        if name in (RETURN, LENGTH):
            return np.asarray(self.returns if name == RETURN else self.lengths, np.float64)
        if name == EVENTS:
            return sum(self.events.values(), np.zeros(len(self.returns)))
        if name not in self.events:
            raise suggest("measure", name, [*MEANS, *self.events])
        return self.events[name].astype(np.float64)

    def to_json(self) -> dict[str, Any]:
        """All but the films, as JSON values; of each event the episodes in which it happened, by their numbers."""
        return {"environment": self.environment, "returns": self.returns.tolist(), "lengths": self.lengths.tolist(),
                "terminated": self.terminated.tolist(), "seeds": self.seeds.tolist(),
                "events": {name: np.flatnonzero(came).tolist() for name, came in self.events.items()}}
