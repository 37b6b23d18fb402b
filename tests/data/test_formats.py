"""What was written in format 1 goes on: it loads as what it was, is continued and repaired beside format 2."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from making import SHAPE, SPEC, episode, flip, frames_position, make_store, same

from wakedream.config import to_dict
from wakedream.data.episode import Episode
from wakedream.data.manifest import MAKERS, ShardInfo, read_manifest
from wakedream.data.repair import repair_data
from wakedream.data.shard import Packed, pack
from wakedream.data.store import Store, StoreWriter
from wakedream.errors import DataError
from wakedream.runs import read_versioned

V1 = Path(__file__).parents[1] / "formats" / "v1"


@pytest.fixture
def old(tmp_path):
    return Path(shutil.copytree(V1 / "data", tmp_path / "old"))


def pack_as_1(episode: Episode) -> Packed:
    """As format 1 kept it: nothing says which rewards are known, an unknown one is 0; no events, no task."""
    packed = pack(episode)
    arrays = {name: values for name, values in packed.arrays.items()
              if name not in ("has_reward", "task") and not name.startswith("events/")}
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype.str} {arrays[name].shape} ".encode() + arrays[name].tobytes())
    info = replace(packed.info, events=(), has_rewards=None, arrays_sha256=digest.hexdigest())
    return Packed(info, packed.frames, arrays)


def test_a_data_set_of_format_1_is_what_it_was(old):
    store = Store.open(old)
    assert store.fingerprint == json.loads((V1 / "tokenizer" / "config.json").read_text())["data"]["fingerprint"]
    assert store.verify() == []
    assert store.events == ()
    for info in store.episodes:
        read = store.read(info.id)
        read.check(store.spec, store.frame_shape)
        assert read.has_reward.tolist() == [t > 0 for t in range(info.frames)]  # it was recorded
        assert read.rewards.sum() == info.total_reward
        assert not read.task.any()
        assert tuple(read.extras) == info.extras


@pytest.mark.parametrize("recorded", [True, False])
def test_the_rule_of_format_1_for_rewards(tmp_path, recorded):
    """Known from frame 1 on where the data set was recorded or the episode has any; else unknown."""
    some, none = episode(20, 1), episode(20, 2)
    none.rewards[:] = 0
    about = {"env": "toy"} if recorded else {"source": "ingest"}
    with StoreWriter(tmp_path, SPEC, frame_shape=SHAPE, info=about) as writer:
        for each in (some, none):
            packed = pack_as_1(each)
            writer.add_packed(packed)
    store = Store.open(tmp_path)
    from_1 = [t > 0 for t in range(20)]
    assert store.verify() == []
    assert store.read(0).has_reward.tolist() == from_1
    assert store.read(1).has_reward.tolist() == (from_1 if recorded else [False] * 20)
    assert store.read(0).rewards.tolist() == some.rewards.tolist()
    assert store.columns(1, 5)["has_reward"].tolist() == store.read(1).has_reward[5:].tolist()


def test_it_is_continued_and_repaired_shard_by_shard(old):
    before = Store.open(old)
    kept = {info.id: before.read(info.id) for info in before.episodes}
    header = before.manifest.header
    h, w, _ = before.frame_shape
    rng = np.random.default_rng(0)
    t = np.arange(24)
    new = Episode(rng.integers(0, 256, (24, h, w, 3), np.uint8), before.spec.placeholder(24), t > 0,
                  (t % 3 == 1).astype(np.float32), True, False, has_reward=t % 3 == 1, events={"won": t == 23}, task=2)
    with StoreWriter(old, before.spec, frame_shape=before.frame_shape, held_out=header.held_out,
                     info=header.info) as writer:
        writer.add(new)
    store, last = Store.open(old), len(kept)
    assert store.events == ("won",)
    assert all(same(store.read(number), truth) for number, truth in kept.items())
    assert same(store.read(last), new)
    assert not store.columns(0)["events/won"].any()
    assert store.columns(last)["has_reward"].tolist() == new.has_reward.tolist()
    assert store.verify() == []

    path, position = frames_position(store, 2)
    flip(path, position + 20)  # a shard of format 1 is written again
    assert any("episode 2" in line for line in repair_data(old))
    (old / "manifest.json").unlink()
    repair_data(old)  # what a shard says of itself is enough
    store = Store.open(old)
    assert [info.id for info in store.episodes] == [number for number in range(last + 1) if number != 2]
    assert all(same(store.read(number), truth) for number, truth in {**kept, last: new}.items() if number != 2)
    assert store.verify() == []


def test_the_manifest_says_what_an_episode_has(tmp_path):
    make_store(tmp_path, [20, 20, 20])
    unknown = Episode.of_video(np.zeros((5, *SHAPE), np.uint8), SPEC)
    with StoreWriter(tmp_path, SPEC, frame_shape=SHAPE) as writer:
        writer.add(unknown)
    infos = read_manifest(tmp_path).episodes
    assert [info.events for info in infos] == [(), ("hit",), ("fall", "hit"), ()]
    assert [info.has_rewards for info in infos] == [True, True, True, False]
    store = Store.open(tmp_path)
    assert same(store.read(3), unknown)
    assert not store.columns(3)["has_reward"].any()


@pytest.mark.parametrize(("changes", "match"), [
    ({"has_reward": np.ones(6, bool)}, r"has_reward\[0\] is True"),
    ({"rewards": np.ones(6, np.float32)}, r"rewards\[0\] is 1 but has_reward\[0\] is False"),
    ({"has_reward": np.zeros(5, bool)}, r"has_reward: bool \(5,\), expected bool \(6,\)"),
    ({"rewards": np.array([0, np.nan, 0, 0, 0, 0], np.float32)}, "rewards are not finite"),
    ({"events": {"won": np.ones(6, bool)}}, "event 'won' is True at index 0"),
    ({"events": {"won": np.zeros(6, np.int64)}}, "event 'won': int64"),
    ({"task": np.zeros(6, np.int32)}, "task: int32")])
def test_what_cannot_have_come_is_refused(changes, match):
    good = episode(6, 0)
    good.check(SPEC, SHAPE)
    with pytest.raises(DataError, match=match):
        replace(good, **changes).check(SPEC, SHAPE)


@pytest.mark.parametrize(("text", "match"), [
    ("{", "is damaged .*mend it"), ("\udcff", "is damaged .*mend it"), ("[]", "not of the format toy: .*written by"),
    ('{"format": "wakedream-data"}', "not of the format toy"),
    ('{"format": "toy", "version": 4}', "has version 4, this wakedream reads 1 and 3: .*or make it again"),
    ('{"format": "toy"}', "has version None"), ('{"format": "toy", "version": 1}', "is damaged .*lacks the field"),
    ('{"format": "toy", "version": 3, "number": 0, "frames": 1, "bytes": 2, "sha256": 5}', "is damaged .*expected str"),
])
def test_a_file_of_another_format_or_version_is_refused(tmp_path, text, match):
    def read():
        return read_versioned(tmp_path / "a.json", ShardInfo, format="toy", versions=(1, 3), made_by=MAKERS,
                              remedy="mend it", again="make it again")

    (tmp_path / "a.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError, match=match) as error:
        read()
    assert str(tmp_path / "a.json") in str(error.value)
    about = ShardInfo(0, 1, 2, "x")
    (tmp_path / "a.json").write_text(json.dumps({"format": "toy", "version": 3, **to_dict(about)}))
    assert read() == about
