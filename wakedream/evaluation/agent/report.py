"""What the page and the terminal say of policies in the real environment."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from wakedream.evaluation.agent.heads import in_words
from wakedream.evaluation.agent.intervals import COVERED
from wakedream.evaluation.agent.judged import EVENTS, LENGTH, MEANS, RETURN
from wakedream.evaluation.page import document as page
from wakedream.evaluation.page.plots import bars, plot
from wakedream.evaluation.page.report import fixed, head, trained, videos

TITLES = {RETURN: "return", LENGTH: "length", EVENTS: "different events"}

DREAM = ("Left: episodes as below. Right: what the same policy does in its dream, from the same first frame on, and "
         "what its heads say of every frame: the reward that came with it, the value of what is to come, whether the "
         "episode goes on.")
HEADS = ("What its heads say of the last frames of held-out episodes, at the level at which practice reads them. Where "
         "they say a little reward in many frames that have none, or that an end goes on, practice ends up there.")
EPISODES = "The first of those that were judged, the same worlds for each policy."


def sections(
    results: dict[str, Any], films: Mapping[str, Sequence[np.ndarray]] | None = None,
    dreams: Mapping[str, Sequence[np.ndarray]] | None = None, fps: float = 10.0
) -> list[str]:
    """Of the page. results: what `policy_table` made, and as "curve" what `learning_curve` made, if there is one;
    "heads" what `heads_on` found, if it was asked; films: by policy, its first episodes as frames, uint8 (t h w c);
    dreams: by policy, what `dreamed` made of them."""
    return [_headed(results), _policies(results), _happened(results), _learning(results), _heads(results),
            _films("In the dream", DREAM, dreams or {}, fps), _films("Episodes", EPISODES, films or {}, fps)]


def lines(results: dict[str, Any]) -> list[str]:
    """For the terminal."""
    shown = [f"{row['policy']}: " + ", ".join(f"{_title(name)} {_interval(row['measures'][name], name)}"
                                              for name in _headline(results)) for row in results["rows"]]
    return shown + [f"{row['policy']} - {results['baseline']}: {_title(name)} {_difference(row, name)}"
                    for row in results["rows"] for name in _primary(results) if row["differences"]
                    ] + in_words(results.get("heads", {}))


def _headed(results: dict[str, Any]) -> str:
    """Whose page it is, and the primary measure of each policy."""
    about, primary = f"{results['episodes']:,} episodes of {results['environment']}", results["primary"]
    shown = [(_number(row["measures"][primary]["value"], primary), f"{_title(primary)}: {row['policy']}")
             for row in results["rows"]]
    return head("Agent", [about, trained(results)], shown, results)


def _policies(results: dict[str, Any]) -> str:
    rows, primary, baseline = results["rows"], results["primary"], results["baseline"]
    compared = _primary(results) if baseline else []
    table = page.table(
        ["policy", *(_title(name) for name in _headline(results)), "ended by itself",
         *(f"{_title(name)} - {baseline}'s" for name in compared)],
        [[row["policy"], *(_interval(row["measures"][name], name) for name in _headline(results)),
          f"{row['terminated']:.1%}", *(_difference(row, name) for name in compared)] for row in rows])  # fmt: skip
    chart = bars({_title(primary): {row["policy"]: _bar(row["measures"][primary]) for row in rows}}, _title(primary))
    text = (f"{results['episodes']:,} episodes of {results['environment']}, in worlds of their own, the same for every "
            f"policy, each played to its end. In brackets: {COVERED:.0%} intervals over episodes (bootstrap; for "
            "shares Wilson's). Length: actions taken.")
    if baseline:
        text += (f" Differences to '{baseline}' are episode by episode on the same worlds, and are known better than "
                 "the two means; one whose interval holds 0 may be chance.")
    return page.section("In the real environment", text, page.plots([chart]), table)


def _happened(results: dict[str, Any]) -> str:
    names = [name for name in results["measures"] if name not in MEANS]
    if not names:
        return ""
    rows = results["rows"]
    table = page.table(["", *(row["policy"] for row in rows)],
                       [[name, *(_interval(row["measures"][name], name) for row in rows)] for name in names])
    chart = bars({row["policy"]: {name: _bar(row["measures"][name]) for name in names} for row in rows},
                 "share of the episodes")
    return page.section("What happened", "The share of the episodes in which it happened, commonest first.",
                        page.plots([chart]), table)  # fmt: skip


def _learning(results: dict[str, Any]) -> str:
    points = results.get("curve")
    if not points:
        return ""
    name = _title(results["primary"])
    low, high = ([math.nan if point[end] is None else point[end] for point in points] for end in ("low", "high"))
    svg = plot({name: ([point["updates"] for point in points], [point["value"] for point in points])}, "updates", name,
               bands={name: (low, high)})  # fmt: skip
    text = f"In the real environment, after so many updates; shaded: {COVERED:.0%} intervals."
    return page.section("Learning", text, page.plots([svg]))


def _heads(results: dict[str, Any]) -> str:
    said = in_words(results.get("heads", {}))
    return page.section("Rewards and ends", HEADS, *map(page.label, said)) if said else ""


def _films(title: str, text: str, films: Mapping[str, Sequence[np.ndarray]], fps: float) -> str:
    """Of each policy those of its first episodes."""
    parts = [page.label(policy) + "".join(videos(shown, fps, _named(policy, len(shown))))
             for policy, shown in films.items() if shown]
    return page.section(title, text, *parts) if parts else ""


def _named(policy: str, count: int) -> list[str]:
    return [f"{policy}: episode {i} of those judged, from its first frame on" for i in range(1, count + 1)]


def _headline(results: dict[str, Any]) -> list[str]:
    """The primary measure first."""
    return list(dict.fromkeys([results["primary"], *(name for name in MEANS if name in results["measures"])]))


def _primary(results: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys([results["primary"], RETURN]))


def _title(name: str) -> str:
    return TITLES.get(name, name)


def _bar(estimate: dict[str, Any]) -> tuple[float, float | None, float | None]:
    return estimate["value"], estimate["low"], estimate["high"]


def _difference(row: dict[str, Any], name: str) -> str:
    return _interval(row["differences"][name], name, "+") if row["differences"] else "-"


def _interval(estimate: dict[str, Any], name: str, sign: str = "") -> str:
    value, low, high = (None if estimate[key] is None else _number(estimate[key], name, sign)
                        for key in ("value", "low", "high"))
    return f"{value}" + ("" if low is None else f" ({low} to {high})")


def _number(value: float, name: str, sign: str = "") -> str:
    return fixed(value, 2, sign) if name in MEANS else f"{fixed(100 * value, 1, sign)}%"
