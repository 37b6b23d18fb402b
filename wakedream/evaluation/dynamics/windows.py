"""Held-out clips to dream on: a context, and what really came after as far as the episode goes."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from wakedream.data.sampler import WindowSampler
from wakedream.data.store import Store
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


def dream_clips(tokenizer: Tokenizer, store: Store, count: int, context: int, frames: int, *,
                split: str = "held_out", seed: int = 0, least: int = LEAST) -> DreamClips:
    """`count` clips of up to context + frames, spread evenly over the windows of context + `least` frames.

    So every clip counts at short horizons, the longer ones at long. Fewer where there are fewer windows. DataError
    when no episode goes beyond the context.
    """
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
    columns = {name: torch.from_numpy(np.stack([one[name] for one in read])) for name in read[0]}
    video, has_action, real = (columns.pop(name) for name in ("/video", "/has_action", "/real"))
    clip = LatentClip(encoded(tokenizer, video), columns, has_action, torch.zeros(real.shape, dtype=torch.int64))
    return DreamClips(video, clip, real, [(episodes[index].id, start) for index, start in windows], context)


def _read(store: Store, episode: int, start: int, frames: int, length: int) -> dict[str, np.ndarray]:
    """By name, `length` frames of which `frames` are real, the last repeated; names with a slash are no actions."""
    found = store.read(episode, start, start + frames)
    picked = np.minimum(np.arange(length), frames - 1)
    real = np.arange(length) < frames
    return {"/video": np.ascontiguousarray(found.video.transpose(0, 3, 1, 2)[picked]), "/real": real,
            "/has_action": found.has_action[picked] & real,
            **{name: values[picked] for name, values in found.actions.items()}}


def without_context(clips: DreamClips, frames: int) -> LatentClip:
    """The first `frames` frames after the clips' contexts as if nothing had been before them: no action led into the
    first."""
    after, clip = slice(clips.context, clips.context + frames), clips.clip
    has_action = clip.has_action[:, after].clone()
    has_action[:, 0] = False
    return LatentClip(clip.latents[:, after], {name: values[:, after] for name, values in clip.actions.items()},
                      has_action, clip.segments[:, after])


@torch.no_grad()
def encoded(tokenizer: Tokenizer, video: Video) -> Latents:
    """Latents, on the CPU, of uint8 (b t c h w)."""
    device = tokenizer.mask_token.device
    return torch.cat([tokenizer.encode(video[rows].to(device)).cpu()
                      for rows in row_batches(len(video), video.shape[1], tokenizer)])


def check_world(world: World, store: Store, split: str = "held_out") -> None:
    """DataError unless frames, actions and split of the data are what the model knows."""
    check_data(world.tokenizer, store, split)
    own, given = ({c.name: (c.kind, c.size, c.low, c.high) for c in spec.components}
                  for spec in (world.dynamics.actions, store.spec))
    if own != given:
        raise DataError(f"the data set {store.path} has the actions {_named(given)}, the model was trained with "
                        f"{_named(own)}: give the data set it was trained on, or one recorded alike")


def _named(spec: dict[str, tuple]) -> str:
    parts = [f"'{name}' ({kind}, {size}{f', from {low} to {high}' if low else ''})"
             for name, (kind, size, low, high) in spec.items()]
    return ", ".join(parts) or "none"
