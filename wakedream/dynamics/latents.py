"""The latents of a data set on disk, as one tokenizer encoded it (encode.py writes them).

    shards/NNNNNN.safetensors   for each shard of the data set, its episodes one after the other
        latents     float16 (frames l e): what the tokenizer's stream gives, each episode from its first frame on
        alone       float16 (frames l e): each frame encoded by itself, as the first of a video
        metadata    JSON: the tokenizer, the data set's shard, and a checksum of both tensors
    latents.json                what this file reads first, written last: a folder with one is complete
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from wakedream import runs
from wakedream.config import from_dict, to_dict
from wakedream.data.manifest import shard_path
from wakedream.data.shard import tensor_position
from wakedream.data.store import Store
from wakedream.errors import ConfigError, DataError

FORMAT = "wakedream-latents"
VERSION = 1
FILE = "latents.json"
TENSORS = ("latents", "alone")
DAMAGE = (SafetensorError, OSError, KeyError, ValueError, TypeError)


@dataclass(frozen=True)
class Span:
    """Where an episode's latents lie: rows start .. start + frames - 1 of a shard."""

    id: int
    shard: int
    start: int
    frames: int


@dataclass(frozen=True)
class About:
    """`latents.json`. tokenizer, data: fingerprints; mean (l e), scale: of the train split's latents."""

    tokenizer: str
    data: str
    scale: float
    mean: tuple[tuple[float, ...], ...]
    episodes: tuple[Span, ...]


class LatentStore:
    """Encoded episodes, opened for reading: `LatentStore.open(path)`. Safe to share among threads.

    tokenizer, data         fingerprints of what encoded what
    num_latents, latent_dim     shape of a frame's latents (l e)
    mean, scale             float32 (l e) and a number: (latents - mean) / scale has unit scale over the train split
    """

    def __init__(self, path: Path, about: About):
        self.path, self.tokenizer, self.data = path, about.tokenizer, about.data
        self.mean, self.scale = torch.tensor(about.mean, dtype=torch.float32), about.scale
        self.num_latents, self.latent_dim = self.mean.shape
        self._spans = {span.id: span for span in about.episodes}
        self._verified: set[int] = set()

    @classmethod
    def open(cls, path: Path | str) -> "LatentStore":
        """DataError when `path` holds no latents, was interrupted, is damaged or of a newer format."""
        path = Path(path)
        latents = cls(path, _read_about(path))
        missing = [number for number in sorted({span.shard for span in latents._spans.values()})
                   if not shard_path(path, number).exists()]
        if missing:
            raise DataError(f"the shard {shard_path(path, missing[0])} is missing; {remedy(path)}")
        return latents

    @property
    def spans(self) -> list[Span]:
        """Where each episode lies."""
        return list(self._spans.values())

    def check(self, tokenizer: str, store: Store) -> None:
        """DataError unless these are the latents of this tokenizer (its fingerprint) and this data set."""
        if self.tokenizer != tokenizer:
            raise different(self.path, "tokenizer", self.tokenizer, tokenizer)
        if self.data != store.fingerprint:
            raise different(self.path, "data set", self.data, store.fingerprint)

    def read(self, episode_id: int, start: int = 0, stop: int | None = None) -> tuple[Tensor, Tensor]:
        """Frames start..stop-1 of an episode, with their past and each alone: float32 (t l e) in [-1, 1] each.

        DataError when damaged or not finite.
        """
        latents, alone = self.read_half(episode_id, start, stop)
        return latents.float(), alone.float()

    def read_half(self, episode_id: int, start: int = 0, stop: int | None = None) -> tuple[Tensor, Tensor]:
        """As `read`, in float16, as they lie on the disk."""
        span = self._spans[episode_id]
        stop = span.frames if stop is None else stop
        if not 0 <= start < stop <= span.frames:
            raise DataError(f"episode {episode_id} has {span.frames} frames, asked for {start}..{stop - 1}")
        path, rows = shard_path(self.path, span.shard), slice(span.start + start, span.start + stop)
        self.verify(span.shard)
        try:
            with safe_open(path, framework="pt") as file:
                latents, alone = (file.get_slice(name)[rows] for name in TENSORS)
        except DAMAGE as error:
            raise damaged(path, error) from error
        self._check_finite(episode_id, start, torch.stack([latents, alone], dim=1))
        return latents, alone

    def mapped(self, shard: int) -> tuple[np.ndarray, np.ndarray]:
        """A shard's latents with their past and alone, float16 (frames l e) each, as they lie in its file: mapped into
        memory, read when they are touched, shared by all processes of the machine."""
        path, shape = shard_path(self.path, shard), (self._frames(shard), self.num_latents, self.latent_dim)
        first, second = (np.memmap(path, np.float16, "r", tensor_position(path, name), shape) for name in TENSORS)
        return first, second

    def verify(self, shard: int, finite: bool = False) -> None:
        """DataError unless this shard is what was written, looked at once; and, if asked, its numbers are finite."""
        if shard not in self._verified:  # a race only does it twice
            self._compare(shard)
        for span in self._spans.values() if finite else ():
            if span.shard == shard:
                part = slice(span.start, span.start + span.frames)
                both = np.stack([mapped[part] for mapped in self.mapped(shard)], axis=1)
                self._check_finite(span.id, 0, torch.from_numpy(both))

    def _compare(self, shard: int) -> None:
        path = shard_path(self.path, shard)
        source = read_source(path)
        if source.tokenizer != self.tokenizer:
            raise damaged(path, ValueError(f"it was made by the tokenizer {source.tokenizer[:12]}"))
        expected = (self._frames(shard), self.num_latents, self.latent_dim)
        try:
            with safe_open(path, framework="pt") as file:
                tensors = [file.get_tensor(name) for name in TENSORS]
        except DAMAGE as error:
            raise damaged(path, error) from error
        if any(tuple(tensor.shape) != expected or tensor.dtype != torch.float16 for tensor in tensors):
            raise damaged(path, ValueError(f"expected float16 {expected}"))
        if _checksum(*tensors) != source.sha256:
            raise damaged(path, ValueError("it differs from its checksum"))
        self._verified.add(shard)

    def _frames(self, shard: int) -> int:
        return max(span.start + span.frames for span in self._spans.values() if span.shard == shard)

    def _check_finite(self, episode: int, start: int, latents: Tensor) -> None:
        finite = latents.isfinite().flatten(1).all(1)
        if not finite.all():
            first = start + int((~finite).nonzero()[0])
            raise not_finite(episode, first, f"of the latents {self.path}")


@dataclass(frozen=True)
class Source:
    """What a shard of latents was made from: a tokenizer, and a data set's shard with this sha256."""

    tokenizer: str
    data_shard: str
    sha256: str = ""


def write_latents(path: Path, latents: Tensor, alone: Tensor, source: Source) -> None:
    """One shard, complete or not at all."""
    about = {**to_dict(source), "sha256": _checksum(latents, alone)}
    with runs.atomic(path) as beside:
        save_file(dict(zip(TENSORS, (latents, alone), strict=True)), beside, {FORMAT: json.dumps(about)})


def read_source(path: Path) -> Source:
    """DataError when this is no shard of latents, UnreadableError when it may not be read."""
    try:
        runs.check_readable(path)
        with safe_open(path, framework="pt") as file:
            return from_dict(Source, json.loads((file.metadata() or {})[FORMAT]))
    except (*DAMAGE, ConfigError) as error:
        raise damaged(path, error) from error


def write_about(folder: Path, about: About) -> None:
    runs.write_json(folder / FILE, {"format": FORMAT, "version": VERSION, **to_dict(about)})


def not_finite(episode: int, frame: int, where: str) -> DataError:
    return DataError(f"episode {episode} {where} has latents that are not finite, first at frame {frame}: its "
                     "tokenizer is damaged or has diverged; take an earlier checkpoint of it, and a new folder")


def different(folder: Path, what: str, found: str, given: str) -> DataError:
    return DataError(f"the latents {folder} are those of the {what} {found[:12]}, but the {what} given is "
                     f"{given[:12]}: give the {what} they were made from, or choose a new folder to encode into")


def damaged(path: Path, error: Exception) -> DataError:
    return DataError(f"the shard of latents {path} is damaged ({type(error).__name__}: {error}): remove it; "
                     f"{remedy(path.parent.parent)}")


def remedy(folder: Path) -> str:
    return f"remove {folder / FILE} and encode again into the same folder, which makes only what is missing"


def _read_about(folder: Path) -> About:
    file = folder / FILE
    if not file.is_file():
        what = "was interrupted, run the same command again to go on" if folder.is_dir() else "does not exist"
        raise DataError(f"{folder} holds no latents (no {FILE}): it {what}, or is not a folder of latents")
    return runs.read_versioned(file, About, format=FORMAT, versions=(VERSION,), made_by="`wakedream train dynamics`",
                               remedy=remedy(folder), again="encode into a new folder")


def _checksum(*tensors: Tensor) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.contiguous().numpy())  # type: ignore[arg-type]
    return digest.hexdigest()
