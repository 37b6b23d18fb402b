"""What the page shows of a tokenizer: strips of frames, influence maps and short videos, all uint8 RGB."""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from wakedream.data.loader import evaluation_clips, evaluation_windows
from wakedream.data.store import Store
from wakedream.evaluation.page.pictures import ERROR_GAIN, VIDEO_FRAMES, VIDEOS, error, strip
from wakedream.notation import Frames
from wakedream.tokenizer.tokenizer import Tokenizer

MASK_RATIO = 0.75
COLUMNS = 8


@dataclass
class Pictures:
    """Pictures uint8 (h w 3), videos uint8 (t h w 3).

    strips   by name: the same frames from left to right in each
    maps     by latent number: how much each pixel hangs on it
    videos   the strips' kinds from left to right, over time
    places   (episode, first frame) of each video
    """

    strips: dict[str, np.ndarray] = field(default_factory=dict)
    maps: dict[int, np.ndarray] = field(default_factory=dict)
    videos: list[np.ndarray] = field(default_factory=list)
    places: list[tuple[int, int]] = field(default_factory=list)


@torch.no_grad()
def take_pictures(
    tokenizer: Tokenizer,
    store: Store,
    length: int,
    videos: bool = True,
    seed: int = 0,
    masked: bool = True,
) -> Pictures:
    """The last frame of each of 8 clips of `length` frames, and 3 clips of up to 64 frames as videos. masked: with what
    is made of three quarters masked input, too."""
    split = store.judging_split
    views = _views(tokenizer, evaluation_clips(store, split, COLUMNS, length, seed).video, seed, masked)
    pictures = Pictures({name: strip(frames[:, -1]) for name, frames in views.items()})
    if videos:
        longest = max(info.frames for info in store.split(split))
        shown = (store, split, VIDEOS, min(VIDEO_FRAMES, longest), seed)
        clip, pictures.places = evaluation_clips(*shown), evaluation_windows(*shown)
        for number, video in enumerate(clip.video):
            kinds = torch.cat(list(_views(tokenizer, video[None], seed + number, masked).values()))
            frames = [strip(kinds[:, t]) for t in range(kinds.shape[1])]
            pictures.videos.append(np.stack(frames))
    return pictures


def _views(tokenizer: Tokenizer, video: Tensor, seed: int, masked: bool) -> dict[str, Frames]:
    """By name: what was there, what the tokenizer was shown, and what it made of it; (b t c h w) each."""
    device = tokenizer.mask_token.device
    frames = video.to(device).float() / 255
    made = tokenizer.reconstruct(frames)
    views = {"truth": frames, "reconstruction": made, f"error x {ERROR_GAIN}": error(made, frames)}
    if masked:
        generator = torch.Generator(device).manual_seed(seed)
        mask = tokenizer.patch_mask(len(frames), frames.shape[1], MASK_RATIO, generator)
        hidden = f"{MASK_RATIO:.0%} masked"
        views |= {hidden: tokenizer.show_mask(frames, mask),
                  f"reconstruction, {hidden}": tokenizer.reconstruct(frames, mask)}
    return {name: view.cpu() for name, view in views.items()}


def heat(maps: Tensor) -> list[np.ndarray]:
    """Maps (k h w), from 0 to the largest value of them all, as colours, uint8 (h w 3) each."""
    from matplotlib import colormaps

    scaled = (maps / maps.max().clamp(min=1e-6)).sqrt().numpy()  # the root lifts weak influence into sight
    return [(colormaps["magma"](one)[..., :3] * 255).astype(np.uint8) for one in scaled]
