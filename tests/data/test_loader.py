import warnings
from collections import Counter
from itertools import islice

import numpy as np
import pytest
import torch
from making import SHAPE, SPEC, flip, frames_position, make_store

from wakedream.data import loader as loader_module
from wakedream.data.loader import Loader, evaluation_clips
from wakedream.data.store import Store, StoreWriter
from wakedream.errors import DataError

LENGTHS = [20, 18, 40, 5, 33]


@pytest.fixture
def made(tmp_path):
    episodes = make_store(tmp_path / "d", LENGTHS)
    return Store.open(tmp_path / "d"), episodes


def equal(a, b) -> bool:
    return (torch.equal(a.video, b.video) and torch.equal(a.rewards, b.rewards)
            and all(torch.equal(a.actions[k], b.actions[k]) for k in b.actions))


def places(episodes, clip) -> list[tuple[int, int]]:
    """Which windows a clip holds, by their rewards, which are all different."""
    found = []
    for rewards in clip.rewards.numpy():
        for number, episode in enumerate(episodes):
            at = np.flatnonzero(episode.rewards == rewards[0])
            found += [(number, int(start)) for start in at]
    return found


@pytest.mark.parametrize("cache_gib", [0, 1])
def test_a_clip_is_what_the_store_has(made, cache_gib):
    store, episodes = made
    with Loader(store, batch_size=3, length=9, cache_gib=cache_gib) as loader:
        for _ in range(30):
            clip = next(loader)
            assert clip.video.shape == (3, 9, 3, *SHAPE[:2])
            assert clip.video.is_contiguous()
            for row, (number, start) in enumerate(places(episodes, clip)):
                truth, stop = episodes[number], start + 9
                assert np.array_equal(clip.video[row].permute(0, 2, 3, 1), truth.video[start:stop])
                assert np.array_equal(clip.actions["move"][row], truth.actions["move"][start:stop])
                assert np.array_equal(clip.actions["arm"][row], truth.actions["arm"][start:stop])
                assert np.array_equal(clip.has_action[row], truth.has_action[start:stop])
                ended = [False] * 8 + [stop == len(truth.video) and truth.terminated]
                assert clip.terminated[row].tolist() == ended
                absent = np.full(len(truth.video), np.nan, np.float32)
                light = truth.extras.get("daylight", absent)[start:stop]
                assert np.array_equal(clip.extras["daylight"][row], light, equal_nan=True)


@pytest.mark.parametrize("world_size", [1, 3])
def test_ranks_share_out_every_window_of_the_split_once(made, world_size):
    store, episodes = made
    train = {info.id: info.frames for info in store.split("train")}
    expected = [(n, s) for n, frames in train.items() for s in range(frames - 9 + 1)]
    batch = 6
    loaders = [Loader(store, batch_size=batch // world_size, length=9, rank=r, world_size=world_size)
               for r in range(world_size)]
    seen, batches = [], []
    while len(seen) < 2 * len(expected):
        clips = [next(loader) for loader in loaders]
        windows = [places(episodes, clip) for clip in clips]
        batches.append({w for rank in windows for w in rank})
        seen += [rank[i] for i in range(batch // world_size) for rank in windows]  # the ranks take turns
    for loader in loaders:
        loader.close()
    n = len(expected)
    assert Counter(seen[:n]) == Counter(seen[n:2 * n]) == Counter(expected)
    assert loaders[0].too_short == [3]


def test_the_state_is_what_was_consumed_and_resumes_exactly(made):
    store, _ = made
    with Loader(store, batch_size=4, length=9, seed=5, workers=2, prefetch=4) as loader:
        states, truth = [loader.state_dict()], []
        for _ in range(12):
            truth.append(next(loader))
            states.append(loader.state_dict())
    for at in (0, 1, 7):
        with Loader(store, batch_size=4, length=9, seed=5, workers=1, prefetch=1, cache_gib=0) as again:
            next(again)
            again.load_state_dict(states[at])
            assert all(equal(next(again), clip) for clip in truth[at:])


def test_a_damaged_window_is_replaced_counted_and_named(tmp_path):
    make_store(tmp_path / "d", [400, 40, 4000], shard_frames=5000)
    path, position = frames_position(Store.open(tmp_path / "d"), 2)
    flip(path, position + 9)
    store = Store.open(tmp_path / "d")
    with Loader(store, batch_size=8, length=9) as loader, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for _ in range(120):
            assert next(loader).video.shape[0] == 8
    assert 1 <= loader.bad_windows <= 9
    assert list(loader.bad) == [2]
    assert sum("a damaged window was replaced" in str(w.message) for w in warned) == 1


def test_too_much_damage_stops_and_says_where(tmp_path):
    make_store(tmp_path / "d", [40, 40, 40])
    path, position = frames_position(Store.open(tmp_path / "d"), 0)
    for chunk_start in (9, 400, 800, 1200):
        flip(path, position + chunk_start)
    with Loader(Store.open(tmp_path / "d"), batch_size=8, length=33) as loader, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(DataError, match=r"damaged, in episodes \[0\].*--repair"):
            list(islice(loader, 20))


def test_the_cache_keeps_to_its_limit_and_unpacks_once(made, monkeypatch):
    store, _ = made
    with Loader(store, batch_size=8, length=9, cache_gib=3 * 16 * 16 * 24 * 3 / 2**30, workers=1) as loader:
        for _ in range(30):
            next(loader)
        assert len(loader._cache) == 3
    with Loader(store, batch_size=8, length=9, workers=1, prefetch=1) as loader:
        for _ in range(30):
            next(loader)
        monkeypatch.setattr(loader_module.Store, "read_chunk", None)
        monkeypatch.setattr("wakedream.data.store.decode", None)
        for _ in range(30):
            next(loader)


def test_evaluation_clips_are_fixed_and_spread_over_all_episodes(tmp_path):
    make_store(tmp_path / "d", [30] * 60)
    store = Store.open(tmp_path / "d")
    assert len(store.split("held_out")) == 6
    clip = evaluation_clips(store, "held_out", 6, 10)
    assert equal(clip, evaluation_clips(store, "held_out", 6, 10))
    assert not equal(clip, evaluation_clips(store, "held_out", 6, 10, seed=1))
    first = clip.video[:, 0, 0, 0, 0].tolist()  # the gradient begins with the episode's number
    assert first == [info.id for info in store.split("held_out")]
    assert len(evaluation_clips(store, "held_out", 1000, 10).video) == 6 * 21


def test_a_split_without_windows_is_told(tmp_path):
    make_store(tmp_path / "d", [30])
    with pytest.raises(DataError, match="no window of 9 frames: there are 0 episodes"):
        evaluation_clips(Store.open(tmp_path / "d"), "held_out", 3, 9)
    with StoreWriter(tmp_path / "d", SPEC, frame_shape=SHAPE) as writer:
        assert writer.num_episodes == 1


@pytest.mark.gpu
def test_on_a_gpu_the_same_clips_arrive(made):
    store, _ = made
    with Loader(store, batch_size=4, length=9) as cpu, \
            Loader(store, batch_size=4, length=9, device="cuda") as gpu:
        for _ in range(30):
            assert equal(next(gpu).to("cpu"), next(cpu))
