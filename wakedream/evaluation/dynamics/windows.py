"""Held-out clips to dream on: a context, and what really came after as far as the episode goes."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from wakedream.data.sampler import WindowSampler
from wakedream.data.store import Store
from wakedream.data.trajectory import Columns, stacked
from wakedream.dynamics.clip import LatentClip
from wakedream.errors import DataError
from wakedream.evaluation.tokenizer.reconstruction import check_data, row_batches
from wakedream.notation import Latents, Video
from wakedream.tokenizer.tokenizer import Tokenizer
from wakedream.world.model import World

LEAST = 16  # frames after the context that every clip has, if any episode has


@dataclass
class DreamClips:
    """b clips of t frames, on the CPU: `context` frames, then those that are to be dreamed.

    video, clip     frames uint8 (b t c h w); their latents and actions. As if each clip's first frame were the first
                    of all, which is what a dream from a context sees
    real            bool (b t): False beyond the episode's end, where its last frame is repeated
    places          (episode, first frame) of each
    """

    video: Video
    clip: LatentClip
    real: Bool[Tensor, "b t"]
    places: list[tuple[int, int]]
    context: int

    @property
    def horizon(self) -> int:
        """Frames after the context that the longest clip has."""
        return int(self.real.sum(1).max()) - self.context

    def rows(self, rows: Tensor) -> "DreamClips":
        """Some of the clips, by number."""
        return replace(self, video=self.video[rows], clip=self.clip.rows(rows), real=self.real[rows],
                       places=[self.places[i] for i in rows.tolist()])


def dream_clips(tokenizer: Tokenizer, store: Store, count: int, context: int, frames: int, *,
                seed: int = 0, least: int = LEAST) -> DreamClips:
    """`count` clips of up to context + frames, spread evenly over the windows of context + `least` frames.

    So every clip counts at short horizons, the longer ones at long. Fewer where there are fewer windows. DataError
    when no episode goes beyond the context.
    """
    split = store.judging_split
    episodes = store.split(split)
    longest = max((info.frames for info in episodes), default=0)
    if longest <= context:
        raise DataError(f"{store.path}: a dream is shown {context} frames and goes on from there, but the longest "
                        f"{split.replace('_', '-')} episode has {longest}: a shorter --context, or longer episodes")
    least = min(least, frames, longest - context)
    sampler = WindowSampler([info.frames for info in episodes], context + least, seed=seed, shuffle=False)
    windows = sampler.spread(count, seed)
    length = min(context + frames, max(episodes[index].frames - start for index, start in windows))
    read = [_read(store, episodes[index].id, start, min(length, episodes[index].frames - start), length)
            for index, start in windows]
    video = torch.from_numpy(np.stack([frames for frames, _ in read]).transpose(0, 1, 4, 2, 3).copy())
    lengths = torch.tensor([min(length, episodes[index].frames - start) for index, start in windows])
    real = torch.arange(length) < lengths[:, None]
    clip = LatentClip(encoded(tokenizer, video), stacked([columns for _, columns in read]),
                      torch.zeros(real.shape, dtype=torch.int64))
    return DreamClips(video, clip, real, [(episodes[index].id, start) for index, start in windows], context)


def _read(store: Store, episode: int, start: int, frames: int, length: int) -> tuple[np.ndarray, Columns]:
    """uint8 (t h w c) and a trajectory's columns, of `length` frames of which `frames` are real: after them the last
    picture and the last action stay, and nothing is known."""
    video = store.read(episode, start, start + frames).video
    return lasting(video, length), columns_at(store, episode, start, frames, length)


def columns_at(store: Store, episode: int, start: int, frames: int, length: int) -> Columns:
    """A trajectory's columns, as `_read` has them."""
    columns = store.columns(episode, start, start + frames)
    beyond = store.empty_columns(length - frames)
    return {name: lasting(values, length) if name.startswith("actions") else np.concatenate([values, beyond[name]])
            for name, values in columns.items()}


def lasting(values: np.ndarray, length: int) -> np.ndarray:
    """(t ...) to (length ...): the last one stays."""
    return np.concatenate([values, np.repeat(values[-1:], length - len(values), axis=0)])


def without_context(clips: DreamClips, frames: int) -> LatentClip:
    """The first `frames` frames after the clips' contexts as if nothing had been before them: no action led into the
    first."""
    clip = clips.clip.frames(slice(clips.context, clips.context + frames))
    has_action = clip.has_action.clone()
    has_action[:, 0] = False
    return replace(clip, trajectory=clip.trajectory.with_actions(clip.actions, has_action))


def evenly(rows: int, count: int) -> Tensor:
    """The numbers of up to `count` of the rows, spread over them all."""
    return torch.linspace(0, rows - 1, min(count, rows)).round().long()


@torch.no_grad()
def encoded(tokenizer: Tokenizer, video: Video) -> Latents:
    """Latents, on the CPU, of uint8 (b t c h w)."""
    device = tokenizer.mask_token.device
    return torch.cat([tokenizer.encode(video[rows].to(device)).cpu()
                      for rows in row_batches(len(video), video.shape[1], tokenizer)])


def check_world(world: World, store: Store) -> None:
    """ConfigError unless the frames, DataError unless the data's actions are what the model knows."""
    check_data(world.tokenizer, store)
    own, given = ({c.name: (c.kind, c.size, c.low, c.high) for c in spec.components}
                  for spec in (world.dynamics.actions, store.spec))
    if own != given:
        raise DataError(f"the data set {store.path} has the actions {_named(given)}, the model was trained with "
                        f"{_named(own)}: give the data set it was trained on, or one recorded alike")


def _named(spec: dict[str, tuple]) -> str:
    parts = [f"'{name}' ({kind}, {size}{f', from {low} to {high}' if low else ''})"
             for name, (kind, size, low, high) in spec.items()]
    return ", ".join(parts) or "none"
