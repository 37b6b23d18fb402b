"""Long dreams: do they stay videos of this world, and do they keep moving?"""

from typing import Any

import numpy as np
import torch

from wakedream.data.loader import evaluation_clips
from wakedream.data.store import Store
from wakedream.data.trajectory import Actions, joined, stacked
from wakedream.dynamics.clip import LatentClip
from wakedream.evaluation.config import CHUNK, EDGE
from wakedream.evaluation.dynamics.chunks import Reference
from wakedream.evaluation.dynamics.rollouts import RollOut, continued, until
from wakedream.evaluation.dynamics.windows import DreamClips, encoded
from wakedream.tokenizer.tokenizer import Tokenizer

WHOLE = EDGE // CHUNK * CHUNK  # frames of an edge that are whole chunks


@torch.no_grad()
def drift(tokenizer: Tokenizer, store: Store, clips: DreamClips, roll: RollOut, frames: int, reference: Reference, *,
          seed: int = 0) -> dict[str, Any]:
    """Dreams of `frames` frames after the clips' contexts, under the actions of held-out episodes one after another.

    rows of: "early" (dreamed frames 16 to 116), "late" (the last 100), "tokenizer" (as many real held-out chunks,
    reconstructed) and "real" (those chunks); each with frechet (against as many chunks of the training split) and
    motion. ratio: late to early.
    """
    context, count = clips.context, len(clips.real)
    clip = long_clip(store, clips, frames)
    latents = continued(clip, roll(clip, context).cpu())
    starts = {"early": context + CHUNK, "late": context + frames - WHOLE}
    found = {of: reference.of_latents(tokenizer, latents, start, WHOLE) for of, start in starts.items()}
    real = evaluation_clips(store, store.judging_split, count * WHOLE // CHUNK, CHUNK, seed).video
    found["tokenizer"] = reference.of_latents(tokenizer, encoded(tokenizer, real), 0, CHUNK)
    found["real"] = reference.of_video(real)
    chunks = min(len(real), count * WHOLE // CHUNK)
    rows = {of: {"frechet": reference.distance(one, chunks), "motion": one.motion} for of, one in found.items()}
    early, late = rows["early"]["frechet"], rows["late"]["frechet"]
    return {"frames": frames, "dreams": count, "chunks": chunks,
            "ratio": late / early if early and late is not None else None,
            "rows": [{"of": of, **row} for of, row in rows.items()]}


def long_clip(store: Store, clips: DreamClips, frames: int) -> LatentClip:
    """The clips' contexts, with actions for `frames` more: those that went on in the episode, then the next episodes'.

    Frames into which no action led are passed over; where there are none at all, none are known in the dream.
    """
    actions, known, offsets = _stream(store)
    context, clip = clips.context, until(clips.clip, clips.context, frames)
    clip.has_action[:, context:] = bool(len(known)) and bool(actions)
    if len(known):
        begins = [np.searchsorted(known, offsets[episode] + start + context) for episode, start in clips.places]
        picked = torch.from_numpy(known[(np.array(begins)[:, None] + np.arange(frames)) % len(known)])
        for name, values in actions.items():
            clip.actions[name][:, context:] = values[picked]
    return clip


def _stream(store: Store) -> tuple[Actions, np.ndarray, dict[int, int]]:
    """All held-out actions by component; which frames an action led into; each episode's first frame there."""
    infos = store.split(store.judging_split)
    every = joined([stacked([store.columns(info.id)]) for info in infos], dim=1)
    ends = np.cumsum([info.frames for info in infos])
    offsets = {info.id: int(end) - info.frames for info, end in zip(infos, ends, strict=True)}
    return ({name: values[0] for name, values in every.actions.items()}, every.has_action[0].nonzero()[:, 0].numpy(),
            offsets)
