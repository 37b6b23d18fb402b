"""What the page shows of a dynamics model: videos and strips, uint8 RGB."""

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from wakedream.evaluation.commands import Held, held
from wakedream.evaluation.dynamics.rollouts import RollOut, continued, decoded_from, until
from wakedream.evaluation.dynamics.windows import DreamClips, evenly, without_context
from wakedream.evaluation.page.pictures import VIDEO_FRAMES, VIDEOS, error, strip
from wakedream.notation import Frames, Latents
from wakedream.tokenizer.tokenizer import Tokenizer

HELD_CLIPS, HELD_FRAMES = 2, 24
STARTS, START_FRAMES, START_SHOWN = 8, 16, (1, 4, 16)


@dataclass
class DreamPictures:
    """Videos uint8 (t h w 3), pictures uint8 (h w 3).

    beside      truth | dream | difference, from the context's first frame on; where each dream begins; and which clips
                these are: (episode, first frame)
    held        one context under each of `commands`, from left to right; what `others` there are, in words; which clips
    starts      strips of dreams from nothing, by frame; and the same dreams as one video
    """

    beside: list[np.ndarray] = field(default_factory=list)
    context: int = 0
    held: list[np.ndarray] = field(default_factory=list)
    commands: tuple[str, ...] = ()
    others: str = ""
    places: list[tuple[int, int]] = field(default_factory=list)
    held_places: list[tuple[int, int]] = field(default_factory=list)
    starts: dict[str, np.ndarray] = field(default_factory=dict)
    starting: np.ndarray | None = None


def beside(tokenizer: Tokenizer, clips: DreamClips, dreamed: Latents, difference: bool = True) -> list[np.ndarray]:
    """Videos of every clip, as far as it is real: truth | the context reconstructed, then the dream | difference."""
    videos = []
    for index, video in enumerate(clips.video):
        frames = int(clips.real[index].sum())
        latents = continued(clips.clip, dreamed)[index:index + 1, :frames]
        made = decoded_from(tokenizer, latents, 0)[0].cpu()
        truth = video[:frames].float() / 255
        shown = [truth, made, error(made, truth)] if difference else [truth, made]
        videos.append(side_by_side(torch.stack(shown)))
    return videos


def spread(clips: DreamClips, dreamed: Latents) -> tuple[DreamClips, Latents]:
    """3 of the clips, of up to 64 frames."""
    order = clips.real.sum(1).argsort(descending=True, stable=True)[:max(VIDEOS, len(clips.real) // 2)]
    rows = order[evenly(len(order), VIDEOS)]
    few = clips.rows(rows)
    return (replace(few, video=few.video[:, :VIDEO_FRAMES], real=few.real[:, :VIDEO_FRAMES]),
            dreamed[rows.to(dreamed.device)])


def under_commands(tokenizer: Tokenizer, clips: DreamClips, roll: RollOut,
                   actions: dict[str, Held]) -> tuple[list[np.ndarray], list[tuple[int, int]]]:
    """Videos of some contexts, a picture for each action that is held after it, all with the same noise; and where the
    contexts are."""
    few = clips.rows(evenly(len(clips.real), HELD_CLIPS))
    context, rows = clips.context, len(few.real)
    clip = until(few.clip, context, HELD_FRAMES)
    kinds = []
    for action in actions.values():
        given = {name: torch.cat([clip.actions[name][:, :context], values], dim=1)
                 for name, values in held(action, rows, HELD_FRAMES).items()}
        dreamed = roll(clip, context, actions=given)
        kinds.append(decoded_from(tokenizer, continued(clip, dreamed), 0).cpu())
    return [side_by_side(torch.stack([kind[row] for kind in kinds])) for row in range(rows)], few.places


def from_nothing(tokenizer: Tokenizer, clips: DreamClips, roll: RollOut) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """8 dreams that begin from noise alone, then under the clips' actions: strips by frame, and a video."""
    few = without_context(clips, START_FRAMES).rows(torch.arange(STARTS) % len(clips.real))
    frames = decoded_from(tokenizer, roll(few, 0), 0).cpu()
    shown = [t for t in START_SHOWN if t <= frames.shape[1]]
    return {f"frame {t}": strip(frames[:, t - 1]) for t in shown}, side_by_side(frames)


def side_by_side(kinds: Frames | Tensor) -> np.ndarray:
    """(n t c h w) to a video uint8 (t h w 3) of n pictures side by side."""
    return np.stack([strip(kinds[:, t]) for t in range(kinds.shape[1])])
