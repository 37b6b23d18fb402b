"""The data card says what a plain count says, and decodes no frame."""

import re
from collections import defaultdict

import numpy as np
import pytest
from making import SHAPE, SPEC, episode

from wakedream.data.card import card
from wakedream.data.config import InspectConfig
from wakedream.data.inspect import inspect_data
from wakedream.data.store import Store, StoreWriter

POLICIES = (None, "random", "scripted", "scripted")


@pytest.fixture
def made(tmp_path):
    """Of a dozen episodes, every third is played by none that is told, one of each five has no known reward."""
    episodes = []
    for seed in range(12):
        each = episode(10 + 3 * seed, seed)
        each.info |= {"policy": POLICIES[seed % 4]} if seed % 4 else {}
        if seed % 5 == 4:
            each.has_reward[:], each.rewards[:] = False, 0
        episodes.append(each)
    with StoreWriter(tmp_path / "d", SPEC, frame_shape=SHAPE, shard_frames=100) as writer:
        for each in episodes:
            writer.add(each)
    return tmp_path / "d", episodes


def test_its_numbers_are_those_of_a_plain_count(made):
    folder, episodes = made
    found = card(Store.open(folder))
    came, had, players, returns = defaultdict(int), defaultdict(int), defaultdict(int), defaultdict(list)
    known = possible = 0
    for each in episodes:
        for t in range(1, len(each.video)):
            known, possible = known + each.has_reward[t], possible + 1
            for name in each.events:
                came[name] += each.events[name][t]
        for name in each.events:
            had[name] += any(each.events[name])
        policy = each.info.get("policy")
        if policy:
            players[policy] += 1
        if any(each.has_reward):
            earned = sum(each.rewards[each.has_reward].tolist())
            returns[None].append(earned)
            if policy:
                returns[policy].append(earned)
    assert found.known_rewards == known / possible
    assert 0 < found.known_rewards < 1
    assert found.events == {name: (had[name], came[name]) for name in ("fall", "hit")}
    assert found.players == players == {"random": 3, "scripted": 6}
    assert found.returns.keys() == returns.keys()
    for whose, earned in returns.items():
        assert found.returns[whose] == pytest.approx(earned, abs=1e-4)


def test_inspect_prints_it_and_decodes_no_frame(made, capsys, monkeypatch):
    folder, _ = made
    monkeypatch.setattr("wakedream.data.store.decode", None)
    inspect_data(InspectConfig(str(folder)))
    told, found = capsys.readouterr().out, card(Store.open(folder))
    for name, (had, times) in found.events.items():
        assert f"event           {name}: in {had} of 12 episodes, {times} times\n" in told
    for start, whose in (("player          random: 3 episodes, 25.0%", "random"),
                         ("player          scripted: 6 episodes, 50.0%", "scripted"),
                         (f"rewards         {found.known_rewards:.1%} known", None)):
        ordered = sorted(found.returns[whose])
        line = re.search(re.escape(start) + r", mean return (\S+), quartiles (.+)\n", told)
        numbers = [float(number) for number in (line[1], *line[2].split(", "))]
        assert numbers[:2] + numbers[-1:] == pytest.approx([np.mean(ordered), ordered[0], ordered[-1]], abs=0.0051)
        assert numbers[3] == pytest.approx(np.median(ordered), abs=0.0051) and sorted(numbers[1:]) == numbers[1:]


def test_of_videos_alone_it_says_that_no_reward_is_known(tmp_path, capsys):
    each = episode(20, 0)
    each.has_reward[:], each.rewards[:], each.info = False, 0, {}
    with StoreWriter(tmp_path / "d", SPEC, frame_shape=SHAPE) as writer:
        writer.add(each)
    inspect_data(InspectConfig(str(tmp_path / "d")))
    told = capsys.readouterr().out
    assert "\nrewards         0.0% known\n" in told
    assert "player" not in told and "\nevent  " not in told


def test_where_no_reward_is_known_no_return_is_told(tmp_path, capsys):
    each = episode(20, 1)
    each.has_reward[:], each.rewards[:] = False, 0
    with StoreWriter(tmp_path / "d", SPEC, frame_shape=SHAPE) as writer:
        writer.add(each)
    inspect_data(InspectConfig(str(tmp_path / "d")))
    told = capsys.readouterr().out
    assert "1 episode, 20 frames (20 to 20), 1 ended, 1 with actions\n" in told and "return" not in told
    assert "all 1 shard, 1 episode whole" in told
