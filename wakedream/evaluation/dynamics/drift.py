"""Long dreams: do they stay videos of this world, and do they keep moving?"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from wakedream.data.loader import evaluation_clips
from wakedream.data.store import Store
from wakedream.dynamics.clip import LatentClip
from wakedream.evaluation.config import CHUNK, EDGE
from wakedream.evaluation.dynamics.chunks import Reference
from wakedream.evaluation.dynamics.rollouts import RollOut, room
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
    dreamed = roll(long_clip(store, clips, frames), context)
    latents = torch.cat([clips.clip.latents[:, :context], dreamed.cpu()], dim=1)
    starts = {"early": context + CHUNK, "late": context + frames - WHOLE}
    found = {of: reference.of_latents(tokenizer, latents, start, WHOLE) for of, start in starts.items()}
    real = evaluation_clips(store, "held_out", count * WHOLE // CHUNK, CHUNK, seed).video
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
    columns, known, offsets = _stream(store)
    context, has_action = clips.context, clips.clip.has_action[:, :clips.context]
    actions = {name: values[:, :context] for name, values in clips.clip.actions.items()}
    picked = torch.zeros(len(clips.places), frames, dtype=torch.int64)
    if len(known):
        begins = [np.searchsorted(known, offsets[episode] + start + context) for episode, start in clips.places]
        after = (np.array(begins)[:, None] + np.arange(frames)) % len(known)
        picked = torch.from_numpy(known[after])
    more = {name: torch.cat([actions[name], values[picked]], dim=1) for name, values in columns.items()}
    has_more = torch.full(picked.shape, bool(len(known)) and bool(columns))
    every = torch.cat([has_action, has_more], dim=1)
    latents = room(clips.clip.latents[:, :context], frames)
    return LatentClip(latents, more, every, torch.zeros(every.shape, dtype=torch.int64))


def _stream(store: Store) -> tuple[dict[str, Tensor], np.ndarray, dict[int, int]]:
    """All held-out actions by component; which frames an action led into; each episode's first frame there."""
    offsets, total, parts, flags = {}, 0, [], []
    for info in store.split("held_out"):
        actions, has_action = store.actions(info.id)
        parts.append(actions)
        flags.append(has_action)
        offsets[info.id], total = total, total + info.frames
    columns = {name: torch.from_numpy(np.concatenate([part[name] for part in parts])) for name in parts[0]}
    return columns, np.flatnonzero(np.concatenate(flags)), offsets
