"""Laws of stored latents: what a stream gives, each episode from its start; none but those that were asked for."""

import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from numbered import TINY, make_numbered

from wakedream.data.manifest import shard_path
from wakedream.data.store import Store
from wakedream.dynamics import encode, harvest
from wakedream.dynamics.encode import Company, encode_store
from wakedream.dynamics.latents import FILE, LatentStore
from wakedream.dynamics.pieces import schedule
from wakedream.dynamics.table import LatentTable
from wakedream.errors import ConfigError, DataError, RunError, UserError
from wakedream.tokenizer.tokenizer import Tokenizer

LENGTHS = [41, 5, 70, 16, 33, 17, 1, 50]  # chunks have 16 frames, the window 3, and two layers look back
HALF = 2e-3  # what rounding to float16 and another order of sums may change


def build(seed=0) -> Tokenizer:
    torch.manual_seed(seed)
    return Tokenizer(TINY).eval()


@pytest.fixture
def store(tmp_path) -> Store:
    return make_numbered(tmp_path / "d", LENGTHS)


def frames_of(store, episode):
    return torch.from_numpy(store.read(episode).video).permute(0, 3, 1, 2)


def check_against_stream(tokenizer, store, latents, tolerance=HALF, **options):
    for info in store.episodes:
        frames, stream = frames_of(store, info.id), tokenizer.stream(1, **options)
        expected = torch.stack([stream.encode(frame[None])[0].cpu() for frame in frames])
        got, _ = latents.read(info.id)
        torch.testing.assert_close(got, expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize("batch_size", [1, 48, 1000])
def test_latents_are_those_of_a_stream_episode_by_episode(tmp_path, store, batch_size):
    tokenizer = build()
    latents = encode_store(tokenizer, store, tmp_path / "l", batch_size=batch_size)
    assert len(store.manifest.shards) > 1
    check_against_stream(tokenizer, store, latents)


def test_latents_alone_have_no_past(tmp_path, store):
    tokenizer = build()
    latents = encode_store(tokenizer, store, tmp_path / "l")
    for info in store.episodes:
        with torch.no_grad():
            expected = tokenizer.encode(frames_of(store, info.id).unsqueeze(1)).squeeze(1)
        joined, alone = latents.read(info.id)
        torch.testing.assert_close(alone, expected, atol=HALF, rtol=0)
        torch.testing.assert_close(joined[0], alone[0], atol=HALF, rtol=0)
        assert info.frames == 1 or (joined[1:] - alone[1:]).abs().max() > 10 * HALF  # so the tests can see the past


@pytest.mark.gpu
def test_on_a_gpu_latents_are_those_of_a_stream_there(tmp_path, store):
    tokenizer = build().cuda()
    latents = encode_store(tokenizer, store, tmp_path / "l", device="cuda")
    check_against_stream(tokenizer, store, latents, tolerance=5e-2)
    for episode in (0, 2):
        with torch.no_grad():
            expected = tokenizer.encode(frames_of(store, episode).cuda().unsqueeze(1)).squeeze(1).cpu()
        torch.testing.assert_close(latents.read(episode)[1], expected, atol=5e-2, rtol=0)


def test_any_part_of_an_episode_can_be_read(tmp_path, store):
    latents = encode_store(build(), store, tmp_path / "l")
    for whole, part in zip(latents.read(2), latents.read(2, 20, 45), strict=True):
        assert part.dtype == torch.float32
        assert torch.equal(part, whole[20:45])
    with pytest.raises(DataError, match="episode 1 has 5 frames, asked for 0..5"):
        latents.read(1, 0, 6)


def test_mean_and_scale_are_of_the_train_split(tmp_path, store):
    latents = encode_store(build(), store, tmp_path / "l")
    assert store.split("held_out")
    values = torch.cat([latents.read(info.id)[0] for info in store.split("train")]).double()
    mean = values.mean(0)
    torch.testing.assert_close(latents.mean.double(), mean, atol=1e-6, rtol=0)
    assert latents.scale == pytest.approx(float((values - mean).square().mean().sqrt()), rel=1e-5)
    assert (latents.num_latents, latents.latent_dim) == latents.mean.shape == (2, 4)


def test_each_frame_is_in_one_piece_and_episodes_keep_their_row(store):
    batches = list(schedule(store.episodes, 3))
    assert all(len({piece.row for piece in pieces}) == len(pieces) for pieces in batches)
    for info in store.episodes:
        pieces = [(number, piece) for number, batch in enumerate(batches) for piece in batch if piece.info is info]
        assert [frame for _, piece in pieces for frame in range(piece.start, piece.stop)] == list(range(info.frames))
        assert len({piece.row for _, piece in pieces}) == 1
        numbers = [number for number, _ in pieces]
        assert numbers == list(range(numbers[0], numbers[0] + len(pieces)))


def test_a_finished_folder_is_opened_not_made_again(tmp_path, store, monkeypatch):
    first = encode_store(build(), store, tmp_path / "l")
    monkeypatch.setattr(encode, "Encoder", None)
    again = encode_store(build(), store, tmp_path / "l")
    assert torch.equal(again.read(3)[0], first.read(3)[0])


def test_latents_of_another_tokenizer_or_data_set_are_refused_and_named(tmp_path, store):
    ours, theirs = build(0), build(1)
    latents = encode_store(ours, store, tmp_path / "l")
    names = f"{ours.fingerprint()[:12]}.*{theirs.fingerprint()[:12]}.*new folder"
    with pytest.raises(DataError, match=names):
        encode_store(theirs, store, tmp_path / "l")
    with pytest.raises(DataError, match=names):
        latents.check(theirs.fingerprint(), store)
    other = make_numbered(tmp_path / "d2", LENGTHS[:-1])
    with pytest.raises(DataError, match=f"{store.fingerprint[:12]}.*{other.fingerprint[:12]}.*new folder"):
        encode_store(ours, other, tmp_path / "l")
    latents.check(ours.fingerprint(), store)


def interrupt(monkeypatch, tokenizer, store, folder):
    """The second shard cannot be written."""
    write, calls = harvest.write_latents, []

    def fails(path, *arguments):
        calls.append(path)
        if len(calls) == 2:
            raise KeyboardInterrupt
        write(path, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(harvest, "write_latents", fails)
        with pytest.raises(KeyboardInterrupt):
            encode_store(tokenizer, store, folder)


def test_an_interrupted_encoding_opens_nothing_and_goes_on(tmp_path, store, monkeypatch):
    tokenizer, folder = build(), tmp_path / "l"
    interrupt(monkeypatch, tokenizer, store, folder)
    with pytest.raises(DataError, match="interrupted, run the same command again"):
        LatentStore.open(folder)
    kept = {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")}
    assert 0 < len(kept) < len(store.manifest.shards)
    with pytest.raises(DataError, match="choose a new folder"):
        encode_store(build(1), store, folder)
    latents = encode_store(tokenizer, store, folder)
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())
    check_against_stream(tokenizer, store, latents)


def test_a_tokenizer_that_gives_nan_is_refused_with_the_episode_named(tmp_path):
    store = make_numbered(tmp_path / "d", [20, 30, 20])
    class Diverged(Tokenizer):
        def _encode(self, frames, mask, cache=None):
            latents = super()._encode(frames, mask, cache)
            number, frame = (frames[:, :, 0, 0, x] * 255 for x in (0, 1))
            return torch.where(((number == 1) & (frame == 23))[..., None, None], torch.nan, latents)

    torch.manual_seed(0)
    with pytest.raises(DataError, match="episode 1 .*not finite, first at frame 23"):
        encode_store(Diverged(TINY), store, tmp_path / "l")
    with pytest.raises(DataError):
        LatentStore.open(tmp_path / "l")


def test_nan_on_the_disk_is_refused_with_the_episode_named(tmp_path, store, monkeypatch):
    latents = encode_store(build(), store, tmp_path / "l")
    span = latents._spans[4]
    path = shard_path(latents.path, span.shard)
    everything = [torch.cat(parts) for parts in zip(
        *(latents.read_half(p.id) for p in latents._spans.values() if p.shard == span.shard), strict=True)]
    everything[1][span.start + 9, 1, 2] = torch.nan
    source = harvest.sources(store, latents.tokenizer)[span.shard]
    harvest.write_latents(path, *everything, source)
    damaged = LatentStore.open(latents.path)
    damaged.read(4, 0, 9)
    with pytest.raises(DataError, match="episode 4 .*not finite, first at frame 9"):
        damaged.read(4, 5)


class Threads:
    """Processes that encode together, as threads: what each says is given to all."""

    def __init__(self, count: int):
        self.count, self.barrier, self.said = count, threading.Barrier(count, timeout=60), [""] * count

    def company(self, rank: int) -> Company:
        def share(said: str) -> list[str]:
            self.said[rank] = said
            self.barrier.wait()
            everything = list(self.said)
            self.barrier.wait()
            return everything

        return Company(rank, self.count, share)

    def encode(self, store, folder, tokenizer) -> list:
        """Of each, the latents, or what it raised."""
        def one(rank):
            try:
                return encode_store(tokenizer, store, folder, show_progress=False, company=self.company(rank))
            except UserError as error:
                return error

        with ThreadPoolExecutor(self.count) as pool:
            return list(pool.map(one, range(self.count)))


@pytest.mark.parametrize("count", [2, 3])
def test_processes_share_out_the_shards_and_make_what_one_makes(tmp_path, store, count, monkeypatch):
    """Byte for byte; each shard by one of them, and all of them at work."""
    alone = encode_store(build(), store, tmp_path / "one")
    shares, share = {}, encode._share

    def noted(episodes, company):
        mine = share(episodes, company)
        shares[company.rank] = {info.shard for info in mine}
        return mine

    monkeypatch.setattr(encode, "_share", noted)
    together = Threads(count).encode(store, tmp_path / "many", build())
    assert all(latents.scale == alone.scale for latents in together)
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.safetensors"))
    made = [shard for mine in shares.values() for shard in mine]
    assert len(made) == len(set(made)) == len(files) >= 2
    assert sum(bool(mine) for mine in shares.values()) == min(count, len(files))
    for file in [*files, FILE]:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "many" / file).read_bytes()
    assert all(isinstance(one, LatentStore) for one in Threads(count).encode(store, tmp_path / "many", build()))


def test_an_error_of_one_process_ends_them_all(tmp_path, store, monkeypatch):
    path = shard_path(store.path, max(info.shard for info in store.episodes))
    path.write_bytes(path.read_bytes()[:-40])
    found = Threads(2).encode(Store.open(store.path), tmp_path / "l", build())
    assert {type(error) for error in found} == {DataError, RunError}
    told = next(error for error in found if isinstance(error, RunError))
    assert "process" in str(told) and str(path) in str(told)
    assert not (tmp_path / "l" / FILE).exists()


def test_processes_that_do_not_see_the_same_folder_are_told(tmp_path, store):
    """Each on a disk of its own."""
    threads = Threads(2)
    with ThreadPoolExecutor(2) as pool:
        made = [pool.submit(encode_store, build(), store, tmp_path / str(rank), show_progress=False,
                            company=threads.company(rank)) for rank in range(2)]
        errors = [one.exception() for one in made]
    assert all(isinstance(error, RunError) for error in errors)
    assert re.search(r"made by another process, is not here .*one that their hosts share", str(errors[0]))
    assert str(errors[1]).startswith("process 0 could not find what was encoded: ")


def test_only_what_encodes_goes_to_the_device(store):
    """Half of the weights of a tokenizer only decode."""
    tokenizer = build()
    copied = encode.encoding_copy(tokenizer, torch.device("cpu"))
    frames = torch.rand(2, 5, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(copied.encode(frames), tokenizer.encode(frames))
    ours, all_of_it = ({name for name, _ in one.named_parameters()} for one in (copied, tokenizer))
    assert ours < all_of_it and not any(name.startswith(("decoder", "to_patch", "from_latent")) for name in ours)
    assert tokenizer.decode(tokenizer.encode(frames)).shape == frames.shape  # the caller's is whole


def test_a_table_in_memory_and_mapped_files_give_the_same(tmp_path, store):
    """What stays in its files is not copied: the map is of the files themselves."""
    latents = encode_store(build(), store, tmp_path / "l")
    episodes = store.split("train")
    table = LatentTable(store, latents, episodes, torch.device("cpu"), 0.0, {info.id for info in episodes})
    rng = np.random.default_rng(0)
    frames = rng.integers(0, table.frames, (5, 7))
    made, trajectory = table.gather(frames, 2)
    whole = [torch.cat([latents.read(info.id)[part] for info in episodes]) for part in range(2)]
    expected = torch.cat([whole[1][torch.from_numpy(frames[:2])], whole[0][torch.from_numpy(frames[2:])]])
    assert torch.equal(made, expected)
    known = np.concatenate([store.columns(info.id)["has_action"] for info in episodes])
    assert torch.equal(trajectory.has_action, torch.from_numpy(known[frames]))
    assert all(isinstance(part, np.memmap) for both in table._maps.values() for part in both)


def test_damaged_files_are_data_errors_that_say_what_to_do(tmp_path, store):
    latents = encode_store(build(), store, tmp_path / "l")
    path = shard_path(latents.path, latents._spans[0].shard)
    good = path.read_bytes()
    for bad in (good[:-3], good[:100], b"", good[:-9] + bytes([good[-9] ^ 1]) + good[-8:]):
        path.write_bytes(bad)
        with pytest.raises(DataError, match=f"{re.escape(str(path))} is damaged.*remove it.*encode again"):
            LatentStore.open(latents.path).read(0)
    path.unlink()
    with pytest.raises(DataError, match="is missing; remove .*latents.json and encode again"):
        LatentStore.open(latents.path)
    (latents.path / FILE).unlink()
    mended = encode_store(build(), store, latents.path)
    check_against_stream(build(), store, mended)


@pytest.mark.parametrize(("change", "message"), [
    (lambda about: about | {"version": 9}, "has version 9"),
    (lambda about: about | {"format": "x"}, "is not of the format wakedream-latents"),
    (lambda about: {k: v for k, v in about.items() if k != "mean"}, "damaged.*mean"),
    (lambda about: [], "is not of the format wakedream-latents"),
])
def test_a_wrong_description_is_a_data_error(tmp_path, store, change, message):
    folder = encode_store(build(), store, tmp_path / "l").path
    about = json.loads((folder / FILE).read_text())
    (folder / FILE).write_text(json.dumps(change(about)))
    with pytest.raises(DataError, match=message):
        LatentStore.open(folder)
    (folder / FILE).write_text("{")
    with pytest.raises(DataError, match="damaged"):
        LatentStore.open(folder)
    with pytest.raises(DataError, match="does not exist"):
        LatentStore.open(tmp_path / "nowhere")


def test_a_data_set_is_not_written_into_and_frames_must_fit(tmp_path, store):
    before = {path: path.read_bytes() for path in store.path.rglob("*.*") if path.is_file()}
    with pytest.raises(DataError, match="is a data set: choose another folder"):
        encode_store(build(), store, store.path)
    assert all(path.read_bytes() == data for path, data in before.items())
    (store.path / "manifest.json").unlink()  # as if it was interrupted
    with pytest.raises(DataError, match="is a data set: choose another folder"):
        encode_store(build(), store, store.path)
    build().save_pretrained(tmp_path / "t")
    with pytest.raises(DataError, match=r"t holds something else \(config.json\).*folder of their own"):
        encode_store(build(), store, tmp_path / "t")
    assert sorted(path.name for path in (tmp_path / "t").iterdir()) == ["config.json", "model.safetensors"]
    torch.manual_seed(0)
    other = Tokenizer.from_preset("debug")
    with pytest.raises(ConfigError, match="frames of 16x16 .*takes 64x64"):
        encode_store(other, store, tmp_path / "l")
    assert not (tmp_path / "l").exists()


def test_a_fingerprint_is_of_config_and_weights(tmp_path):
    tokenizer = build()
    tokenizer.save_pretrained(tmp_path / "t")
    assert Tokenizer.from_pretrained(tmp_path / "t").fingerprint() == tokenizer.fingerprint() == build().fingerprint()
    assert build(1).fingerprint() != tokenizer.fingerprint()
    with torch.no_grad():
        tokenizer.to_latent.weight[0, 0] += 1e-6
    assert tokenizer.fingerprint() != build().fingerprint()


def test_actions_come_without_frames(store, monkeypatch):
    expected = store.read(2)
    monkeypatch.setattr(Store, "_read_video", None)
    actions, has_action = store.actions(2)
    assert list(actions) == ["frame", "place"]
    assert all(np.array_equal(values, expected.actions[name]) for name, values in actions.items())
    assert np.array_equal(has_action, expected.has_action)
