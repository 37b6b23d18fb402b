"""Laws of the table of policies and of what page and terminal say of it."""

import json
import re

import numpy as np
import pytest
from signs import Reader

from wakedream.errors import ConfigError
from wakedream.evaluation.agent.intervals import difference, mean, rate
from wakedream.evaluation.agent.judge import judge
from wakedream.evaluation.agent.judged import Judged, Played
from wakedream.evaluation.agent.report import lines, sections
from wakedream.evaluation.agent.table import learning_curve, policy_table

ENV = "signs:Signs-v0"


@pytest.fixture(scope="module")
def judged():
    given = {"seed": 3, "size": None, "num_envs": 8, "films": 1}
    return {"random": judge(ENV, "random", 30, **given), "reader": judge(ENV, Reader, 30, **given)}


def made(returns, name="env", **events):
    return Judged.of(name, [Played(i, 100 + i, float(total), 5, True, {key: came[i] for key, came in events.items()})
                            for i, total in enumerate(returns)])


def test_it_holds_means_rates_and_differences_with_their_intervals(judged):
    table = policy_table(judged, baseline="random")
    assert (table["environment"], table["episodes"], table["primary"]) == (ENV, 30, "return")
    assert table["measures"] == ["return", "length", "events", "right", "late"]  # the commonest event first
    random, reader = table["rows"]
    mine, its = judged["reader"], judged["random"]
    assert reader["measures"]["return"] == pytest.approx(mean(mine.returns).to_json())
    assert reader["measures"]["length"] == pytest.approx(mean(mine.lengths.astype(float)).to_json())
    assert reader["measures"]["events"] == pytest.approx(mean(mine.measure("events")).to_json())
    assert reader["measures"]["right"] == pytest.approx(rate(mine.events["right"]).to_json())
    assert reader["differences"]["return"] == pytest.approx(difference(mine.returns, its.returns).to_json())
    assert reader["differences"]["right"] == pytest.approx(
        difference(mine.measure("right"), its.measure("right")).to_json())
    assert random["differences"] == {}
    assert reader["terminated"] == mine.terminated.mean()
    assert reader["judged"]["returns"] == mine.returns.tolist()
    json.dumps(table, allow_nan=False)


def test_one_episode_has_no_interval():
    table = policy_table({"a": made([3.0]), "b": made([4.0])}, baseline="b")
    json.dumps(table, allow_nan=False)
    assert lines(table)[0] == "a: return 3.00, length 5.00"
    assert lines(table)[2] == "a - b: return -1.00"
    assert "nan" not in "".join(sections(table))


def test_an_event_that_one_policy_never_told_did_not_happen_to_it():
    table = policy_table({"a": made([0, 0], coin=[True, False]), "b": made([0, 0])}, "coin", "b")
    a, b = table["rows"]
    assert (a["measures"]["coin"]["value"], b["measures"]["coin"]["value"]) == (0.5, 0.0)
    assert a["differences"]["coin"]["value"] == 0.5


def test_an_event_with_the_name_of_a_measure_is_told_from_it():
    one = made([7, 7], **{"return": [True, False]})
    assert policy_table({"a": one})["measures"] == ["return", "length", "events", "event return"]
    assert one.measure("return").tolist() == [7, 7] and one.measure("event return").tolist() == [1, 0]


def test_wrong_names_and_different_worlds_are_refused(judged):
    with pytest.raises(ConfigError, match="unknown measure 'rigth'; did you mean 'right'"):
        policy_table(judged, "rigth")
    with pytest.raises(ConfigError, match="unknown measure 'rigth'; did you mean 'right'"):
        learning_curve({0: judged["random"]}, "rigth")
    with pytest.raises(ConfigError, match="unknown baseline 'radnom'; did you mean 'random'"):
        policy_table(judged, baseline="radnom")
    with pytest.raises(ConfigError, match="no policy"):
        policy_table({})
    with pytest.raises(ConfigError, match="unknown measure 'events'"):
        policy_table({"a": made([1, 2])}, "events")
    for other in (made([1, 2], "other"), made([1, 2, 3])):
        with pytest.raises(ConfigError, match="'a' and 'b' were judged on different worlds"):
            policy_table({"a": made([1, 2]), "b": other})


def test_the_page_shows_the_numbers_of_the_table(judged):
    table = policy_table(judged, "events", "random")
    table["curve"] = learning_curve({100: judged["reader"], 0: judged["random"]}, "events")
    assert [point["updates"] for point in table["curve"]] == [0, 100]
    page = "".join(sections(table, {name: one.films for name, one in judged.items()}))
    for row in table["rows"]:
        for name in ("return", "events", "length"):
            numbers = row["measures"][name]
            assert f"{numbers['value']:.2f} ({numbers['low']:.2f} to {numbers['high']:.2f})" in page
        for name in ("right", "late"):
            numbers = row["measures"][name]
            assert f"{numbers['value']:.1%} ({numbers['low']:.1%} to {numbers['high']:.1%})" in page
    numbers = table["rows"][1]["differences"]["events"]
    assert f"{numbers['value']:+.2f} ({numbers['low']:+.2f} to {numbers['high']:+.2f})" in page
    assert page.count("<svg") == 3  # the primary measure, events, the curve
    assert page.count("data:video/mp4") == 2
    assert "updates" in page and not re.search(r"https?:", re.sub(r"base64,[\w+/=]+", "", page))


def test_what_there_is_nothing_of_is_not_on_the_page():
    headed, policies, *others = sections(policy_table({"<b>": made([1, 2])}))
    assert others == [""] * 5 and "return: &lt;b&gt;" in headed
    assert "&lt;b&gt;" in policies and "<b>" not in policies and "Differences" not in policies


def test_the_bars_stand_where_their_values_are(judged):
    """Longer for more; the ends of the interval on both sides of a bar's end."""
    from wakedream.evaluation.page.plots import bars

    svg = bars({"share": {"few": (0.2, 0.1, 0.4), "many": (0.8, None, None)}}, "x")
    edges = [[float(x) for x in re.findall(r"[ML] ([\d.]+) ", d)] for d in re.findall(
        r'<path d="([^"]+z)[^"]*" clip-path', svg)]
    few, many = sorted(max(found) - min(found) for found in edges if len(found) >= 4)[:2]
    assert many == pytest.approx(4 * few, rel=1e-3)
    ends, = (found for d in re.findall(r'<path d="(M [^"z]+)" clip-path', svg)
             if len(set(re.findall(r" [\d.]+ ([\d.]+)", d))) == 1
             and len(found := [float(x) for x in re.findall(r"[ML] ([\d.]+) ", d)]) == 2)
    assert (ends[1] - ends[0]) == pytest.approx(1.5 * few, rel=1e-3)


def test_the_terminal_says_the_primary_measure_first(judged):
    table = policy_table(judged, "late", "random")
    first, second, *others = lines(table)
    share = np.mean(judged["reader"].events["late"])
    assert first.startswith("random: late ") and second.startswith(f"reader: late {share:.1%} (")
    assert [line.split(" ")[:4] for line in others] == [["reader", "-", "random:", name] for name in ("late", "return")]
