import warnings
from collections import Counter
from itertools import islice

import numpy as np
import pytest
import torch
from making import SHAPE, SPEC, flip, frames_position, make_store

from wakedream.data import resident
from wakedream.data.loader import Loader, evaluation_clips
from wakedream.data.store import Store, StoreWriter
from wakedream.errors import ConfigError, DataError

LENGTHS = [20, 18, 40, 5, 33]


@pytest.fixture
def made(tmp_path):
    episodes = make_store(tmp_path / "d", LENGTHS)
    return Store.open(tmp_path / "d"), episodes


def equal(a, b) -> bool:
    """Bit for bit: an extra that an episode lacks is NaN in both."""
    a, b = ({"video": clip.video, **clip.trajectory.columns()} for clip in (a, b))
    return list(a) == list(b) and all(
        a[k].dtype == b[k].dtype and np.array_equal(a[k].numpy(), b[k].numpy(), equal_nan=b[k].is_floating_point())
        for k in b)


def places(episodes, clip) -> list[tuple[int, int]]:
    """Which windows a clip holds, by what the arm does, which is never the same."""
    found = []
    for arm in clip.actions["arm"].numpy():
        for number, episode in enumerate(episodes):
            at = np.flatnonzero(episode.actions["arm"][:, 0] == arm[0, 0])
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
                for name, values in truth.columns().items():
                    assert np.array_equal(clip.trajectory.columns()[name][row], values[start:stop]), name
                ended = [False] * 8 + [stop == len(truth.video) and truth.terminated]
                assert clip.terminated[row].tolist() == ended
                absent = np.full(len(truth.video), np.nan, np.float32)
                light = truth.extras.get("daylight", absent)[start:stop]
                assert np.array_equal(clip.extras["daylight"][row], light, equal_nan=True)
                assert set(clip.events) == {"hit", "fall"}
                assert not any(clip.events[name][row].any() for name in clip.events.keys() - truth.events.keys())


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


@pytest.mark.parametrize("world_size", [1, 3])
def test_a_resident_split_gives_the_clips_of_a_streamed_one(made, world_size):
    store, _ = made
    options = dict(batch_size=4, length=9, seed=3, world_size=world_size)
    for rank in range(world_size):
        with Loader(store, rank=rank, cache_gib=1, **options) as whole, \
                Loader(store, rank=rank, cache_gib=0, **options) as streamed:
            states = []
            for _ in range(3 * whole.sampler.num_windows // (4 * world_size)):  # three epochs
                assert equal(next(whole), next(streamed))
                assert whole.state_dict() == streamed.state_dict()
                states.append(whole.state_dict())
            for loader in (whole, streamed):
                loader.load_state_dict(states[5])
            for state in states[6:9]:
                assert equal(next(whole), next(streamed))
                assert whole.state_dict() == streamed.state_dict() == state


def test_a_resident_split_replaces_the_same_damaged_windows(tmp_path):
    make_store(tmp_path / "d", [400, 40, 300, 4000], shard_frames=700)
    for number, chunk_start in ((0, 9), (2, 9)):
        path, position = frames_position(Store.open(tmp_path / "d"), number)
        flip(path, position + chunk_start)
    flip(path, path.stat().st_size - 1)  # and the third episode's small arrays: all its windows are damaged
    options = dict(batch_size=8, length=9, seed=1, workers=1, prefetch=1)
    with Loader(Store.open(tmp_path / "d"), cache_gib=1, **options) as whole, \
            Loader(Store.open(tmp_path / "d"), cache_gib=0, **options) as streamed, \
            warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        stopped = []
        for loader in (whole, streamed):
            clips = []
            with pytest.raises(DataError, match="windows read are damaged") as error:
                clips.extend(islice(loader, 300))
            stopped.append((clips, str(error.value), loader.bad, loader.bad_windows, loader.read_windows))
    (clips, *told), (other_clips, *other_told) = stopped
    assert told == other_told
    assert len(clips) == len(other_clips) > 1
    assert all(equal(a, b) for a, b in zip(clips, other_clips, strict=True))
    assert {0, 2} >= whole.bad.keys()
    assert len(warned) == 2 * len(whole.bad)


def test_a_split_is_unpacked_once_if_it_fits_and_batch_by_batch_if_not(made, monkeypatch):
    store, _ = made
    frames = sum(info.frames for info in store.split("train") if info.frames >= 9)
    gib = frames * 16 * 24 * 3 / 2**30
    monkeypatch.setattr(resident, "PIECE_FRAMES", 16)  # several pieces an episode
    with Loader(store, batch_size=8, length=9, cache_gib=gib) as whole, \
            Loader(store, batch_size=8, length=9, cache_gib=gib * 0.999, prefetch=1) as streamed:
        assert equal(next(whole), next(streamed))
        monkeypatch.setattr("wakedream.data.store.decode", None)
        for _ in range(30):
            next(whole)
        with pytest.raises(TypeError):
            next(streamed)


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
@pytest.mark.parametrize("cache_gib", [0, 1])
def test_on_a_gpu_the_same_clips_arrive(made, cache_gib):
    store, _ = made
    with Loader(store, batch_size=4, length=9) as cpu, \
            Loader(store, batch_size=4, length=9, device="cuda", cache_gib=cache_gib) as gpu:
        for _ in range(30):
            clip = next(gpu)
            assert clip.video.is_cuda and clip.video.is_contiguous()
            assert equal(clip.to("cpu"), next(cpu))


@pytest.mark.gpu
def test_a_gpu_without_room_is_told_and_the_host_holds_the_split(made, monkeypatch):
    store, _ = made
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2**16, 2**30))
    with pytest.warns(UserWarning, match="free memory of cuda"):
        gpu = Loader(store, batch_size=4, length=9, device="cuda")
    with gpu, Loader(store, batch_size=4, length=9) as cpu:
        for _ in range(30):
            assert equal(next(gpu).to("cpu"), next(cpu))


class Counted(list):
    """A list that knows how often it was walked through."""

    walks = 0

    def __iter__(self):
        self.walks += 1
        return super().__iter__()


@pytest.mark.parametrize("cache_gib", [0, 1])
def test_a_batch_costs_the_same_however_many_episodes_there_are(made, cache_gib):
    store, _ = made
    with Loader(store, batch_size=3, length=9, cache_gib=cache_gib) as loader:
        next(loader)
        lists = [Counted(store.episodes), Counted(loader.episodes), Counted(store.manifest.episodes)]
        store.episodes, loader.episodes = lists[:2]
        object.__setattr__(store.manifest, "episodes", lists[2])
        for _ in range(8):  # more than was made ready before
            next(loader)
    assert [each.walks for each in lists] == [0, 0, 0]


def test_a_seed_that_no_generator_takes_is_refused_by_name(made):
    for seed in (-1, 2**63):
        with pytest.raises(ConfigError, match=f"seed is {seed}: expected a whole number from 0"):
            Loader(made[0], batch_size=3, length=9, seed=seed)
        with pytest.raises(ConfigError, match=f"seed is {seed}: expected a whole number from 0"):
            evaluation_clips(made[0], "held_out", 1, 9, seed=seed)
