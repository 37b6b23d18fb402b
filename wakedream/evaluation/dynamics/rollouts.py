"""Dreams beside what really happened: the same context, the same actions."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from wakedream.dynamics.clip import LatentClip
from wakedream.dynamics.dream import Dream
from wakedream.dynamics.dynamics import Dynamics
from wakedream.notation import Frames, Latents
from wakedream.tokenizer.tokenizer import Tokenizer

PIECE = 256  # frames decoded at a time
RollOut = Callable[..., Latents]  # roll_out with a model and options of its own: (clip, context, **options)


@torch.no_grad()
def roll_out(dynamics: Dynamics, clip: LatentClip, context: int, *, sampling_steps: int = 4, seed: int = 0,
             actions: dict[str, Tensor] | None = None, batch_size: int | None = None,
             advance: Callable[[int], Any] | None = None, **options: Any) -> Latents:
    """Latents (b t-context l e) dreamed after the first `context` frames of the clip, under its actions.

    context     0: dreams from nothing. The clip's latents after it are not looked at, see `room`
    actions     others in their place, of the whole clip's length
    batch_size  dreams side by side (default: all); advance: told the number of frames that came to be
    """
    rows = len(clip.has_action)
    side_by_side = min(batch_size or rows, rows)
    dream = Dream(dynamics, side_by_side, sampling_steps=sampling_steps, seed=seed, **options)
    made = []
    for start in range(0, rows, side_by_side):
        chosen = torch.arange(start, start + side_by_side) % rows  # the last batch is filled up, for one shape
        dream.reset()
        given = {name: values[chosen] for name, values in (actions or clip.actions).items()}
        made.append(_continue(dream, rows_of(clip, chosen), context, given))
        if advance:
            advance(min(side_by_side, rows - start) * made[-1].shape[1])
    return torch.cat(made)[:rows]


def _continue(dream: Dream, clip: LatentClip, context: int, actions: dict[str, Tensor]) -> Latents:
    if context:
        dream.observe(clip.latents[:, :context], {name: values[:, :context] for name, values in clip.actions.items()},
                      clip.has_action[:, :context])
    return torch.stack([dream.step({name: values[:, t] for name, values in actions.items()}, clip.has_action[:, t])
                        for t in range(context, clip.has_action.shape[1])], dim=1)


def rows_of(clip: LatentClip, rows: Tensor | slice) -> LatentClip:
    """Some rows of a clip, on the device where it is."""
    def pick(tensor: Tensor) -> Tensor:
        return tensor[rows.to(tensor.device) if isinstance(rows, Tensor) else rows]

    return LatentClip(pick(clip.latents), {name: pick(values) for name, values in clip.actions.items()},
                      pick(clip.has_action), pick(clip.segments))


def room(latents: Tensor, frames: int) -> Tensor:
    """The latents (b t l e) with place for `frames` more."""
    return torch.cat([latents, latents.new_zeros(len(latents), frames, *latents.shape[2:])], dim=1)


def pictures_of(tokenizer: Tokenizer, clip: LatentClip, dreamed: Latents) -> Frames:
    """The dreamed frames (b t c h w) in [0, 1], decoded after their context."""
    context = clip.has_action.shape[1] - dreamed.shape[1]
    return decoded_from(tokenizer, torch.cat([clip.latents[:, :context].to(dreamed.device), dreamed], dim=1), context)


@torch.no_grad()
def decoded_from(tokenizer: Tokenizer, latents: Latents, start: int) -> Tensor:
    """The frames from `start` on, (b t-start c h w), on the tokenizer's device; those before are decoded as far as
    they matter."""
    reach, device, length = _reach(tokenizer), tokenizer.mask_token.device, latents.shape[1]
    pieces = []
    for first in range(start, length, PIECE):
        before = min(first, reach)
        piece = latents[:, first - before:min(first + PIECE, length)].to(device)
        pieces.append(tokenizer.decode(piece)[:, before:])
    return torch.cat(pieces, dim=1)


def _reach(tokenizer: Tokenizer) -> int:
    """Frames that the decoder's layers over time can look back, one after the other."""
    config = tokenizer.config.encoder if tokenizer.decoder is None else tokenizer.config.decoder
    return (config.window - 1) * sum(kind != "space" for kind in config.layers)
