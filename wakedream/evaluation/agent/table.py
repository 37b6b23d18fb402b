"""Policies that were judged on the same worlds, as one table. Needs no torch."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from wakedream.config import suggest
from wakedream.errors import ConfigError
from wakedream.evaluation.agent.intervals import Estimate, mean, means, rate
from wakedream.evaluation.agent.judged import EVENTS, MEANS, RETURN, Judged

Json = dict[str, Any]


def policy_table(judged: Mapping[str, Judged], primary: str = RETURN, baseline: str | None = None) -> Json:
    """All of it as JSON values; an interval is {value, low, high}, in which low and high are None of one episode.

    primary   what policies are compared by: "return", "length", "events" (how many different ones an episode has), or
              an event's name
    baseline  the policy that differences are to, episode by episode on the same worlds

    environment, episodes, primary, baseline
    measures  return, length and events (if there are any), then the events by name, commonest first
    rows      policy; measures: name -> interval (percentile bootstrap; for events by name Wilson's);
              differences: name -> interval of policy - baseline, {} without one; terminated: share of the episodes that
              truly ended; judged: its episodes, as `Judged.to_json`

    ConfigError for a measure or baseline that there is not, and for policies that were judged on different worlds.
    """
    first = _checked(judged, baseline)
    measures = _measures(judged.values(), primary)
    numbers = {policy: _numbers(one, measures) for policy, one in judged.items()}
    base = None if baseline is None else numbers[baseline]
    rows = []
    for policy, one in judged.items():
        apart = {} if base is None or policy == baseline else _estimates(measures, numbers[policy] - base)
        rows.append({"policy": policy, "measures": _json(_measured(numbers[policy], measures)),
                     "differences": _json(apart), "terminated": float(one.terminated.mean()),
                     "judged": one.to_json()})
    return {"environment": first.environment, "episodes": len(first.returns), "primary": primary, "baseline": baseline,
            "measures": measures, "rows": rows}


def learning_curve(judged: Mapping[int, Judged], primary: str = RETURN) -> list[Json]:
    """By the updates after which each was judged: updates, value, low, high of the primary measure, as JSON values.

    ConfigError for a measure that there is not.
    """
    _measures(judged.values(), primary)
    return [{"updates": updates, **mean(_measure(one, primary)).to_json()} for updates, one in sorted(judged.items())]


def _checked(judged: Mapping[str, Judged], baseline: str | None) -> Judged:
    if not judged:
        raise ConfigError("no policy was judged: expected at least one")
    if baseline is not None and baseline not in judged:
        raise suggest("baseline", baseline, judged)
    (name, first), *others = judged.items()
    for other, one in others:
        if (one.environment, one.seeds.tolist()) != (first.environment, first.seeds.tolist()):
            raise ConfigError(f"'{name}' and '{other}' were judged on different worlds: judge both with the same "
                              "environment, episodes, seed and avoid")
    return first


def _measures(judged: Collection[Judged], primary: str) -> list[str]:
    events = sorted(set[str]().union(*(one.events for one in judged)))
    events.sort(key=lambda name: -sum(_measure(one, name).mean() for one in judged))
    measures = [name for name in MEANS if events or name != EVENTS] + events
    if primary not in measures:
        raise suggest("measure", primary, measures)
    return measures


def _measure(judged: Judged, name: str) -> np.ndarray:
    """An event that this policy's episodes never told did not happen."""
    known = name in MEANS or name in judged.events
    return judged.measure(name) if known else np.zeros(len(judged.returns))


def _numbers(judged: Judged, measures: list[str]) -> np.ndarray:
    return np.stack([_measure(judged, name) for name in measures], axis=1)


def _measured(numbers: np.ndarray, measures: list[str]) -> dict[str, Estimate]:
    count = sum(name in MEANS for name in measures)
    found = _estimates(measures[:count], numbers[:, :count])
    return found | {name: rate(numbers[:, i] > 0) for i, name in enumerate(measures) if i >= count}


def _estimates(measures: list[str], numbers: np.ndarray) -> dict[str, Estimate]:
    return dict(zip(measures, means(numbers), strict=True))


def _json(found: Mapping[str, Estimate]) -> Json:
    return {name: estimate.to_json() for name, estimate in found.items()}
