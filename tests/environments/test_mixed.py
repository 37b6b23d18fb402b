"""Laws of recording with several players: shares hold, chance hangs on (seed, episode) alone, one player's streams are
what they were before there were mixes."""

import hashlib
import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from wakedream.data.store import Store
from wakedream.environments.config import RecordConfig
from wakedream.environments.mixture import drawn, shares, spelled
from wakedream.environments.play import play_episode
from wakedream.environments.record import record
from wakedream.environments.registry import environment
from wakedream.errors import ConfigError, DataError

pytest.importorskip("gymnasium")
sys.path.insert(0, str(Path(__file__).parent))  # the recording processes inherit it
TOY = "toy_world:ToyUneven-v0"  # later episodes are done first
MIX = "sticky:3,random:1"


def config(out: Path, **changes) -> RecordConfig:
    return RecordConfig(**{"env": TOY, "out": str(out), "frames": 78, "policy": MIX, **changes})


@pytest.mark.parametrize("policy", [MIX, "random:0.1,scripted:0.2,sticky:0.7"])
def test_each_player_has_its_share(policy):
    count, expected = 6000, shares(policy)
    players = Counter(drawn(policy, chance) for chance in np.random.default_rng(5).random(count))
    assert players.keys() == expected.keys()
    for name, share in expected.items():
        assert abs(players[name] / count - share) < 4 * np.sqrt(share * (1 - share) / count), name


def test_each_player_has_its_share_of_the_episodes():
    env, count = environment("toy_world:ToyPainter-v0").make(None), 800
    infos = [play_episode("toy_world:ToyPainter-v0", env, MIX, 1, index, max_frames=2).info for index in range(count)]
    share = sum(info["policy"] == "sticky" for info in infos) / count
    assert abs(share - 0.75) < 4 * np.sqrt(0.75 * 0.25 / count)


def test_a_mix_is_spelled_in_one_way():
    assert shares(MIX) == {"random": 0.25, "sticky": 0.75}
    assert {spelled(each) for each in (MIX, "random:0.25,sticky:0.75", "random:7, sticky:21")} == {
        "random:0.25,sticky:0.75"}
    assert spelled("random:1,sticky:2") == spelled(spelled("random:1,sticky:2")) == "random:0.333333,sticky:0.666667"
    assert spelled("sticky") == spelled("sticky:0.2") == "sticky"


def test_a_mixed_recording_is_one_whatever_the_processes_and_the_interruptions(tmp_path):
    record(config(tmp_path / "two", processes=2))
    for frames in (20, 45, 78):
        record(config(tmp_path / "parts", frames=frames))
    stores = [Store.open(tmp_path / name) for name in ("two", "parts")]
    assert stores[0].fingerprint == stores[1].fingerprint
    infos = [[info.info for info in store.episodes] for store in stores]
    assert infos[0] == infos[1]
    assert {info["policy"] for info in infos[0]} == {"random", "sticky"}
    record(config(tmp_path / "two", frames=80, policy="random:25,sticky:75"))  # the same, in other words
    for other in ("sticky:2,random:1", "random"):
        with pytest.raises(DataError, match=r"recorded with policy random:0\.25,sticky:0\.75, this command says"):
            record(config(tmp_path / "two", frames=90, policy=other))


def test_in_a_mix_a_player_plays_its_episodes_as_it_would_alone():
    env = environment(TOY).make(None)
    for index in range(8):
        mixed = play_episode(TOY, env, MIX, 0, index)
        alone = play_episode(TOY, env, mixed.info["policy"], 0, index)
        assert mixed.info == alone.info
        assert all((values == alone.columns()[name]).all() for name, values in mixed.columns().items())


@pytest.mark.parametrize(("policy", "message"), [
    ("random:0.5,sticky", "expected NAME or NAME:SHARE.*got 'sticky'"), ("random,sticky", "got 'random'"),
    ("random:0,sticky:1", "got 'random:0'"), ("random:-1,sticky:2", "got 'random:-1'"),
    ("random:nan,sticky:1", "got 'random:nan'"), ("random:inf,sticky:1", "got 'random:inf'"),
    ("random:much,sticky:1", "got 'random:much'"), ("random:1,:2", "got ':2'"), ("random:1,", "got ''"),
    ("random:1,sticky:1,random:2", "got 'random' twice"), ("random:1e308,sticky:1e308", "sum is too large"),
])
def test_what_is_no_mix_is_refused(tmp_path, policy, message):
    with pytest.raises(ConfigError, match=message):
        config(tmp_path / "data", policy=policy)


def test_an_unknown_player_is_refused_however_seldom_it_would_play(tmp_path):
    with pytest.raises(ConfigError, match=r"unknown policy for .* 'rndom'; did you mean 'random'\?"):
        record(config(tmp_path / "data", policy="sticky:1,rndom:1e-9"))
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(("name", "policy", "golden"), [
    ("toy_world:ToySlow-v0", "random", "4d7c69b2f131ec73"), ("toy_world:ToySlow-v0", "sticky", "52bb45b064d40f65"),
    ("toy_world:ToySlow-v0", None, "52bb45b064d40f65"), ("crafter", "random", "096c063b2ea23de6"),
    ("crafter", "sticky", "3a9fa7be08cc53a3"), ("crafter", "scripted", "eb8067be9ca78dd8"),
    ("crafter", None, "eb8067be9ca78dd8"),
])
def test_one_players_episodes_are_those_of_before_there_were_mixes(name, policy, golden):
    """Digests of actions, rewards and infos, made with the code of before."""
    if name == "crafter":
        pytest.importorskip("crafter")
    env, digest = environment(name).make(None), hashlib.sha256()
    for index in range(4):
        episode = play_episode(name, env, policy, 7, index, max_frames=60 if name == "crafter" else None)
        digest.update(episode.actions["action"].astype(np.int64).tobytes() + episode.rewards.tobytes())
        digest.update(json.dumps(episode.info, sort_keys=True).encode())
    assert digest.hexdigest()[:16] == golden
