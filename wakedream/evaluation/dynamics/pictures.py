"""What the page shows of a dynamics model: videos and strips, uint8 RGB."""

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from wakedream.dynamics.clip import LatentClip
from wakedream.evaluation.dynamics.commands import Held, held
from wakedream.evaluation.dynamics.rollouts import RollOut, decoded_from, room, rows_of
from wakedream.evaluation.dynamics.windows import DreamClips, without_context
from wakedream.evaluation.page.pictures import VIDEO_FRAMES, VIDEOS, error, strip
from wakedream.notation import Frames, Latents
from wakedream.tokenizer.tokenizer import Tokenizer

HELD_CLIPS, HELD_FRAMES = 2, 24
STARTS, START_FRAMES, START_SHOWN = 8, 16, (1, 4, 16)


@dataclass
class DreamPictures:
    """Videos uint8 (t h w 3), pictures uint8 (h w 3).

    beside      truth | dream | difference, from the context's first frame on; where each dream begins
    held        one context under each of `commands`, from left to right
    starts      strips of dreams from nothing, by frame; and the same dreams as one video
    """

    beside: list[np.ndarray] = field(default_factory=list)
    context: int = 0
    held: list[np.ndarray] = field(default_factory=list)
    commands: tuple[str, ...] = ()
    starts: dict[str, np.ndarray] = field(default_factory=dict)
    starting: np.ndarray | None = None


def beside(tokenizer: Tokenizer, clips: DreamClips, dreamed: Latents, difference: bool = True) -> list[np.ndarray]:
    """Videos of every clip, as far as it is real: truth | the context reconstructed, then the dream | difference."""
    videos = []
    for index, video in enumerate(clips.video):
        frames = int(clips.real[index].sum())
        latents = joined(clips.clip, dreamed, clips.context)[index:index + 1, :frames]
        made = decoded_from(tokenizer, latents, 0)[0].cpu()
        truth = video[:frames].float() / 255
        shown = [truth, made, error(made, truth)] if difference else [truth, made]
        videos.append(side_by_side(torch.stack(shown)))
    return videos


def spread(clips: DreamClips, dreamed: Latents) -> tuple[DreamClips, Latents]:
    """3 of the clips, of up to 64 frames."""
    order = clips.real.sum(1).argsort(descending=True, stable=True)[:max(VIDEOS, len(clips.real) // 2)]
    rows = order[torch.linspace(0, len(order) - 1, min(VIDEOS, len(order))).round().long()]
    few = replace(clips, video=clips.video[rows, :VIDEO_FRAMES], real=clips.real[rows, :VIDEO_FRAMES],
                  clip=rows_of(clips.clip, rows), places=[clips.places[i] for i in rows.tolist()])
    return few, dreamed[rows.to(dreamed.device)]


def under_commands(tokenizer: Tokenizer, clips: DreamClips, roll: RollOut,
                   actions: dict[str, Held]) -> list[np.ndarray]:
    """Videos of some contexts, a picture for each action that is held after it, all with the same noise."""
    few = rows_of(clips.clip, torch.linspace(0, len(clips.real) - 1, min(HELD_CLIPS, len(clips.real))).round().long())
    context, rows = clips.context, len(few.has_action)
    clip = until(few, context, HELD_FRAMES)
    kinds = []
    for action in actions.values():
        given = {name: torch.cat([clip.actions[name][:, :context], values], dim=1)
                 for name, values in held(action, rows, HELD_FRAMES).items()}
        dreamed = roll(clip, context, actions=given)
        kinds.append(decoded_from(tokenizer, joined(clip, dreamed, context), 0).cpu())
    return [side_by_side(torch.stack([kind[row] for kind in kinds])) for row in range(rows)]


def from_nothing(tokenizer: Tokenizer, clips: DreamClips, roll: RollOut) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """8 dreams that begin from noise alone, then under the clips' actions: strips by frame, and a video."""
    few = rows_of(without_context(clips, START_FRAMES), torch.arange(STARTS) % len(clips.real))
    frames = decoded_from(tokenizer, roll(few, 0), 0).cpu()
    shown = [t for t in START_SHOWN if t <= frames.shape[1]]
    return {f"frame {t}": strip(frames[:, t - 1]) for t in shown}, side_by_side(frames)


def until(clip: LatentClip, context: int, frames: int) -> LatentClip:
    """The clip's context, and room for `frames` more whose actions are known (and still 0)."""
    rows = len(clip.has_action)
    known = torch.full((rows, frames), bool(clip.actions))
    more = {name: torch.cat([v[:, :context], v.new_zeros(rows, frames, *v.shape[2:])], dim=1)
            for name, v in clip.actions.items()}
    has_action = torch.cat([clip.has_action[:, :context], known], dim=1)
    return LatentClip(room(clip.latents[:, :context], frames), more, has_action,
                      torch.zeros(has_action.shape, dtype=torch.int64))


def joined(clip: LatentClip, dreamed: Tensor, context: int) -> Tensor:
    """All latents (b t l e): the context's, then the dreamed ones."""
    return torch.cat([clip.latents[:, :context].to(dreamed.device), dreamed], dim=1)


def side_by_side(kinds: Frames | Tensor) -> np.ndarray:
    """(n t c h w) to a video uint8 (t h w 3) of n pictures side by side."""
    return np.stack([strip(kinds[:, t]) for t in range(kinds.shape[1])])
