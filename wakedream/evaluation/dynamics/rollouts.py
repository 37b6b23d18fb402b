"""Dreams beside what really happened: the same context, the same actions."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from wakedream.data.trajectory import Actions, Trajectory, joined
from wakedream.dynamics.clip import LatentClip
from wakedream.dynamics.dream import Dream
from wakedream.dynamics.dynamics import Dynamics
from wakedream.dynamics.noise import row_seeds
from wakedream.notation import Frames, Latents
from wakedream.tokenizer.tokenizer import Tokenizer

PIECE = 256  # frames decoded at a time
RollOut = Callable[..., Latents]  # roll_out with a model and options of its own: (clip, context, **options)


@torch.no_grad()
def roll_out(dynamics: Dynamics, clip: LatentClip, context: int, *, sampling_steps: int = 4, seed: int = 0,
             actions: Actions | None = None, batch_size: int | None = None,
             advance: Callable[[int], Any] | None = None, **options: Any) -> Latents:
    """Latents (b t-context l e) dreamed after the first `context` frames of the clip, under its actions.

    context     0: dreams from nothing. The clip's latents after it are not looked at, see `until`
    seed        of them all: a dream's noise hangs on its row in the clip, and on nothing that is dreamed beside it
    actions     others in their place after the context, of the whole clip's length
    batch_size  dreams side by side (default: all); advance: told the number of frames that came to be
    """
    rows = len(clip.latents)
    side_by_side, seeds = min(batch_size or rows, rows), row_seeds(seed, rows)
    dream = Dream(dynamics, side_by_side, sampling_steps=sampling_steps, **options)
    trajectory = clip.trajectory if actions is None else clip.trajectory.with_actions(actions)
    made = []
    for start in range(0, rows, side_by_side):
        chosen = torch.arange(start, start + side_by_side) % rows  # the last batch is filled up, for one shape
        dream.reset(seed=seeds[chosen])
        made.append(_continue(dream, clip.rows(chosen), context, trajectory.rows(chosen)))
        if advance:
            advance(min(side_by_side, rows - start) * made[-1].shape[1])
    dream.engine.check()
    return torch.cat(made)[:rows]


def _continue(dream: Dream, clip: LatentClip, context: int, trajectory: Trajectory) -> Latents:
    if context:
        seen = clip.frames(slice(context))
        dream.observe(seen.latents, seen.actions, seen.has_action)
    return torch.stack([dream.step({name: values[:, t] for name, values in trajectory.actions.items()},
                                   trajectory.has_action[:, t])
                        for t in range(context, clip.latents.shape[1])], dim=1)


def until(clip: LatentClip, context: int, frames: int) -> LatentClip:
    """The clip's context, and room for `frames` more of which nothing is known but that there are actions, if the clip
    has any: they are still 0."""
    seen = clip.frames(slice(context))
    more = clip.frames(slice(1)).map(lambda one: one.new_zeros(len(one), frames, *one.shape[2:]))
    more.has_action.fill_(bool(clip.actions))
    for extra in more.extras.values():
        extra.fill_(torch.nan)
    return replace(joined([seen, more], dim=1), segments=torch.zeros(len(seen.latents), context + frames,
                                                                     dtype=torch.int64, device=seen.segments.device))


def continued(clip: LatentClip, dreamed: Tensor) -> Latents:
    """All latents (b t l e): the clip's, as far as they were the dream's context, then the dreamed ones."""
    context = clip.latents.shape[1] - dreamed.shape[1]
    return torch.cat([clip.latents[:, :context].to(dreamed.device), dreamed], dim=1)


def pictures_of(tokenizer: Tokenizer, clip: LatentClip, dreamed: Latents) -> Frames:
    """The dreamed frames (b t c h w) in [0, 1], decoded after their context."""
    return decoded_from(tokenizer, continued(clip, dreamed), clip.latents.shape[1] - dreamed.shape[1])


@torch.no_grad()
def decoded_from(tokenizer: Tokenizer, latents: Latents, start: int) -> Tensor:
    """The frames from `start` on, (b t-start c h w), on the tokenizer's device; those before are decoded as far as
    they matter."""
    reach, device, length = _reach(tokenizer), tokenizer.mask_token.device, latents.shape[1]
    pieces = []
    for first in range(start, length, PIECE):
        before = min(first, reach)
        piece = latents[:, first - before:min(first + PIECE, length)].to(device)
        pieces.append(tokenizer.pictures(piece)[:, before:])
    return torch.cat(pieces, dim=1)


def _reach(tokenizer: Tokenizer) -> int:
    """Frames that the decoder's layers over time can look back, one after the other."""
    config = tokenizer.config.encoder if tokenizer.decoder is None else tokenizer.config.decoder
    return (config.window - 1) * sum(kind != "space" for kind in config.layers)
