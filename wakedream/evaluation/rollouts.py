"""Dreams beside what really happened: the same context, the same actions."""

import torch
from torch import Tensor

from wakedream.dynamics.clip import LatentClip
from wakedream.dynamics.dream import Dream
from wakedream.dynamics.dynamics import Dynamics
from wakedream.notation import Frames, Latents
from wakedream.tokenizer.tokenizer import Tokenizer


@torch.no_grad()
def roll_out(dynamics: Dynamics, clip: LatentClip, context: int, *, sampling_steps: int = 4, seed: int = 0,
             actions: dict[str, Tensor] | None = None, **options) -> Latents:
    """Latents (b t-context l e) dreamed after the first `context` frames of the clip, under its actions.

    actions: others in their place, of the whole clip's length. context 0: dreams from nothing.
    """
    batch, num_frames = clip.has_action.shape
    dream = Dream(dynamics, batch, sampling_steps=sampling_steps, seed=seed, **options)
    given = actions or clip.actions
    if context:
        dream.observe(clip.latents[:, :context], {name: values[:, :context] for name, values in clip.actions.items()},
                      clip.has_action[:, :context])
    made = [dream.step({name: values[:, t] for name, values in given.items()}, clip.has_action[:, t])
            for t in range(context, num_frames)]
    return torch.stack(made, dim=1)


@torch.no_grad()
def pictures_of(tokenizer: Tokenizer, clip: LatentClip, dreamed: Latents) -> Frames:
    """The dreamed frames (b t c h w) in [0, 1], decoded after their context."""
    context = clip.latents.shape[1] - dreamed.shape[1]
    device = tokenizer.mask_token.device
    past = clip.latents[:, max(0, context - _reach(tokenizer)):context].to(device)
    return tokenizer.decode(torch.cat([past, dreamed.to(device)], dim=1))[:, past.shape[1]:]


def _reach(tokenizer: Tokenizer) -> int:
    """Frames that the decoder's layers over time can look back, one after the other."""
    config = tokenizer.config.encoder if tokenizer.decoder is None else tokenizer.config.decoder
    return (config.window - 1) * sum(kind != "space" for kind in config.layers)
