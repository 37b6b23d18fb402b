"""A data set to the latents of a tokenizer: many episodes side by side, each as the tokenizer's stream sees it."""

import contextlib
import copy
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor

from wakedream import runs
from wakedream.data import manifest
from wakedream.data.codec import CHUNK_FRAMES
from wakedream.data.manifest import EpisodeInfo, shard_path
from wakedream.data.store import Store
from wakedream.data.writer import begun
from wakedream.dynamics.harvest import Harvest, sources, spans
from wakedream.dynamics.latents import FILE, About, LatentStore, different, read_source, write_about
from wakedream.dynamics.pieces import unpacked
from wakedream.errors import DataError, RunError, UserError
from wakedream.progress import late_bar
from wakedream.tokenizer.fitting import check_frames
from wakedream.tokenizer.tokenizer import Tokenizer

TOKENS = {"cuda": 2**17}  # at a time, unless batch_size says otherwise
TOKENS_CPU = 2**12
LEAST_SCALE = 1e-6
Made = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Company:
    """Of the processes that encode together, which one this is. `share`: gives every process what each of them says, in
    the order of ranks; each waits there for all."""

    rank: int = 0
    world_size: int = 1
    share: Callable[[str], list[str]] = lambda said: [said]

    @contextlib.contextmanager
    def together(self, what: str) -> Iterator[None]:
        """What is done within is done by all, or all raise: each its own error, or a RunError that tells another's."""
        mine: BaseException | None = None
        try:
            yield
        except (UserError, OSError) as error:
            mine = error
        said = self.share("" if mine is None else str(mine))
        if mine is not None:
            raise mine
        for rank, other in enumerate(said):
            if other:
                raise RunError(f"process {rank} could not {what}: {other}")


def encode_store(tokenizer: Tokenizer, store: Store, folder: Path | str, *, device: torch.device | str = "cpu",
                 batch_size: int | None = None, workers: int | None = None, show_progress: bool = True,
                 company: Company | None = None) -> LatentStore:
    """Encode all episodes into `folder`; one that holds this tokenizer's latents of this data set is only opened.

    Precision is that of `tokenizer.stream()` on the device. What an interrupted call completed, shard by shard, is
    kept, and the same call goes on. batch_size: frames at a time; workers: threads that unpack frames. company: several
    processes that see the same folder share out the shards; all of them call this.

    DataError when the folder holds other latents, an episode is damaged, or latents are not finite; ConfigError
    when the frames do not fit the tokenizer; RunError when another process writes there.
    """
    folder, name, device = Path(folder), tokenizer.fingerprint(), torch.device(device)
    shape, company = (tokenizer.config.num_latents, tokenizer.config.latent_dim), company or Company()
    check_frames(store, tokenizer.config)
    with contextlib.ExitStack() as held:
        with company.together("begin to encode"):  # all look before one of them writes
            done = (folder / FILE).exists()
            if not done:
                _check_folder(folder)
            if not done and company.rank == 0:
                held.enter_context(runs.locked(folder))
            episodes = [] if done else _share(_missing(store, folder, name), company)
        with company.together("encode its share"):
            if episodes:
                encoder = Encoder(tokenizer, _rows(tokenizer, episodes, device, batch_size), device)
                with Harvest(store, folder, name, shape) as harvest:
                    _encode(encoder, store, episodes, harvest, workers or min(16, os.cpu_count() or 1), show_progress)
        with company.together("find what was encoded"):
            if company.rank == 0 and not done:
                _check_whole(store, folder, name)
        sums: dict[int, Tensor] = {}
        with company.together("measure the latents"):
            if not done:
                sums = _sums(_unmeasured(store, folder, name, shape), _share(store.split("train"), company))
        sums = _heard(company.share(_said(sums)))
        with company.together("end the latents"):
            if company.rank == 0 and not done:
                _finish(store, folder, name, sums)
    latents = LatentStore.open(folder)
    latents.check(name, store)
    return latents


def _check_folder(folder: Path) -> None:
    """DataError where anything but latents that were begun is in it."""
    if (folder / manifest.FILE).exists() or begun(folder) is not None:
        raise DataError(f"{folder} is a data set: choose another folder for its latents")
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.name != manifest.SHARDS and not path.name.startswith("."):
            raise DataError(f"{folder} holds something else ({path.name}), latents would lie amid it: choose a folder "
                            "of their own, new or empty")


def _share(episodes: list[EpisodeInfo], company: Company) -> list[EpisodeInfo]:
    """Whole shards, so that each is written by one; the largest first, each to whoever has the fewest frames so far."""
    frames = Counter[int]()
    for info in episodes:
        frames[info.shard] += info.frames
    loads, mine = [0] * company.world_size, set()
    for shard, count in sorted(frames.items(), key=lambda item: (-item[1], item[0])):
        least = loads.index(min(loads))
        loads[least] += count
        mine |= {shard} if least == company.rank else set()
    return [info for info in episodes if info.shard in mine]


class Encoder:
    """`rows` streams of a tokenizer, CHUNK_FRAMES frames of each at a time; and the same frames each alone."""

    def __init__(self, tokenizer: Tokenizer, rows: int, device: torch.device):
        self.rows, self.device = rows, device
        self.model = encoding_copy(tokenizer, device)
        self.cache = self.model.encoder.init_cache(rows, self.model.encoder_layout)

    @torch.inference_mode(False)
    @torch.no_grad()
    def __call__(self, video: Tensor, new: Tensor) -> Made:
        """uint8 (b t h w c), and which rows begin a video, bool (b). Never waits for a GPU.

        Latents float16 (2 b t l e), with the past and alone; and which frames' are finite, bool (b t).
        """
        video, new = (tensor.to(self.device, non_blocking=True) for tensor in (video, new))
        frames = rearrange(video, "b t h w c -> b t c h w").float() / 255
        self.cache.reset(new)
        with torch.autocast(self.device.type, enabled=False):
            latents = self.model._encode(frames, None, self.cache)
            alone = self.model._encode(rearrange(frames, "b t c h w -> (b t) 1 c h w"), None)
        both = torch.stack([latents, rearrange(alone, "(b t) 1 l e -> b t l e", b=self.rows)])
        return both.half(), both.isfinite().all(-1).all(-1).all(0)


def encoding_copy(tokenizer: Tokenizer, device: torch.device) -> Tokenizer:
    """A frozen copy on the device, in the precision of streams there, that can encode and nothing else: what only
    decodes is left out."""
    decodes = [tokenizer.decoder, tokenizer.from_latent, tokenizer.to_patch, tokenizer.query_positions,
               tokenizer.latent_positions, tokenizer.decoder_registers]
    encodes = copy.deepcopy(tokenizer, {id(part): None for part in decodes if part is not None})
    return encodes.to(device).frozen("bf16" if device.type == "cuda" else None)


class _Copy:
    """On its way from the device, which meanwhile goes on."""

    def __init__(self, made: Made):
        self.copies = tuple(tensor.to("cpu", non_blocking=True) for tensor in made)
        self.arrived = torch.cuda.Event() if made[0].is_cuda else None
        if self.arrived:
            self.arrived.record(torch.cuda.current_stream(made[0].device))

    def get(self) -> Made:
        if self.arrived:
            self.arrived.synchronize()
        both, finite = self.copies
        return both, finite


def _encode(encoder: Encoder, store: Store, episodes: list[EpisodeInfo], harvest: Harvest, workers: int,
            show_progress: bool) -> None:
    pinned, total = encoder.device.type == "cuda", sum(info.frames for info in episodes)
    with (ThreadPoolExecutor(workers, thread_name_prefix="unpack") as pool,
          late_bar("encoding", total, "frames", show_progress) as advance):
        try:
            last = None
            for batch in unpacked(store, episodes, encoder.rows, pool, pinned):
                copy = _Copy(encoder(batch.video, batch.new))
                if last:  # while the device works on this batch
                    advance(harvest.take(last[0], *last[1].get()))
                last = batch.pieces, copy
            if last:
                advance(harvest.take(last[0], *last[1].get()))
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _rows(tokenizer: Tokenizer, episodes: list[EpisodeInfo], device: torch.device, batch_size: int | None) -> int:
    tokens = TOKENS.get(device.type, TOKENS_CPU)
    frames = batch_size or tokens // tokenizer.encoder_layout.num_tokens
    return min(len(episodes), max(1, frames // CHUNK_FRAMES))


def _missing(store: Store, folder: Path, tokenizer: str) -> list[EpisodeInfo]:
    """The episodes of the shards that are not there yet; DataError when others are.

    Shard by shard, so that each is soon whole, and in each the longest first, so that rows end together.
    """
    missing = set()
    for number, source in sources(store, tokenizer).items():
        path = shard_path(folder, number)
        if not path.exists():
            missing.add(number)
            continue
        found = read_source(path)
        if found.tokenizer != source.tokenizer:
            raise different(folder, "tokenizer", found.tokenizer, source.tokenizer)
        if found.data_shard != source.data_shard:
            raise different(folder, f"data set with shard {number}", found.data_shard, source.data_shard)
    wanted = [info for info in store.episodes if info.shard in missing]
    return sorted(wanted, key=lambda info: (info.shard, -info.frames))


def _check_whole(store: Store, folder: Path, tokenizer: str) -> None:
    """RunError when a shard made by another is not here."""
    paths = [shard_path(folder, number) for number in sources(store, tokenizer)]
    if gone := [path for path in paths if not path.exists()]:
        raise RunError(f"{gone[0]}, made by another process, is not here ({len(gone)} of {len(paths)} shards): all "
                       "processes must see the same folder of latents; choose one that their hosts share")


def _unmeasured(store: Store, folder: Path, tokenizer: str, shape: tuple[int, int]) -> LatentStore:
    return LatentStore(folder, About(tokenizer, store.fingerprint, 1.0, ((0.0,) * shape[1],) * shape[0],
                                     tuple(spans(store))))


def _sums(latents: LatentStore, episodes: Sequence[EpisodeInfo]) -> dict[int, Tensor]:
    """Of each shard, float64 (2 l e): the latents (not those alone) of these episodes and their squares, added."""
    found: dict[int, Tensor] = {}
    for info in episodes:
        values = latents.read(info.id)[0]
        both = torch.stack([part.sum(0, dtype=torch.float64) for part in (values, values.square())])
        found[info.shard] = found[info.shard] + both if info.shard in found else both
    return found


def _said(sums: dict[int, Tensor]) -> str:
    """To the bit: JSON has all digits of a float64."""
    return json.dumps({shard: both.tolist() for shard, both in sums.items()})


def _heard(said: list[str]) -> dict[int, Tensor]:
    """Of all shards, in their order, so that what is added is the same number for any number of processes."""
    parts = {int(shard): part for text in said for shard, part in json.loads(text).items()}
    return {shard: torch.tensor(both, dtype=torch.float64) for shard, both in sorted(parts.items())}


def _finish(store: Store, folder: Path, tokenizer: str, sums: dict[int, Tensor]) -> None:
    """Write `latents.json`, with what was measured of the train split."""
    mean, scale = statistics(sums, sum(info.frames for info in store.split("train")))
    write_about(folder, About(tokenizer, store.fingerprint, scale, tuple(tuple(row) for row in mean.tolist()),
                              tuple(spans(store))))


def statistics(sums: dict[int, Tensor], frames: int) -> tuple[Tensor, float]:
    """The mean, float32 (l e), of so many frames' latents, and one number for all: the root of the mean squared
    deviation from it."""
    if not frames:
        raise DataError("the data set has no episode to train on: record or ingest more")
    total, squares = sum(sums.values(), torch.zeros(()))
    mean = total / frames
    variance = (squares / frames - mean.square()).clamp(min=0).mean()
    return mean.float(), max(float(variance.sqrt()), LEAST_SCALE)
