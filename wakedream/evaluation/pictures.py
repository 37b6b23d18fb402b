"""What the page shows of a tokenizer: strips of frames, influence maps and short videos, all uint8 RGB."""

import io
from dataclasses import dataclass, field

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from wakedream.data.loader import evaluation_clips
from wakedream.data.store import Store
from wakedream.notation import Frames
from wakedream.tokenizer.tokenizer import Tokenizer

ERROR_GAIN = 4
MASK_RATIO = 0.75
COLUMNS = 8
GAP = 2  # pixels between frames
VIDEOS, VIDEO_FRAMES = 3, 64


@dataclass
class Pictures:
    """Pictures uint8 (h w 3), videos uint8 (t h w 3).

    strips   by name: the same frames from left to right in each
    maps     by latent number: how much each pixel hangs on it
    videos   the strips' kinds from left to right, over time
    """

    strips: dict[str, np.ndarray] = field(default_factory=dict)
    maps: dict[int, np.ndarray] = field(default_factory=dict)
    videos: list[np.ndarray] = field(default_factory=list)


@torch.no_grad()
def take_pictures(
    tokenizer: Tokenizer,
    store: Store,
    length: int,
    split: str = "held_out",
    videos: bool = True,
    seed: int = 0,
) -> Pictures:
    """The last frame of each of 8 clips of `length` frames, and 3 clips of up to 64 frames as videos."""
    views = _views(tokenizer, evaluation_clips(store, split, COLUMNS, length, seed).video, seed)
    pictures = Pictures({name: strip(frames[:, -1]) for name, frames in views.items()})
    if videos:
        longest = max(info.frames for info in store.split(split))
        clip = evaluation_clips(store, split, VIDEOS, min(VIDEO_FRAMES, longest), seed)
        for number, video in enumerate(clip.video):
            kinds = torch.cat(list(_views(tokenizer, video[None], seed + number).values()))
            frames = [strip(kinds[:, t]) for t in range(kinds.shape[1])]
            pictures.videos.append(np.stack(frames))
    return pictures


def _views(tokenizer: Tokenizer, video: Tensor, seed: int) -> dict[str, Frames]:
    """By name: what was there, what the tokenizer was shown, and what it made of it; (b t c h w) each."""
    device = tokenizer.mask_token.device
    frames = video.to(device).float() / 255
    generator = torch.Generator(device).manual_seed(seed)
    mask = tokenizer.patch_mask(len(frames), frames.shape[1], MASK_RATIO, generator)
    made = tokenizer.reconstruct(frames)
    hidden = f"{MASK_RATIO:.0%} masked"
    views = {
        "truth": frames,
        "reconstruction": made,
        f"error x {ERROR_GAIN}": error(made, frames),
        hidden: tokenizer.show_mask(frames, mask),
        f"reconstruction, {hidden}": tokenizer.reconstruct(frames, mask),
    }
    return {name: view.cpu() for name, view in views.items()}


def error(prediction: Tensor, target: Tensor) -> Tensor:
    """The absolute difference, enlarged to be seen."""
    return ((prediction - target).abs() * ERROR_GAIN).clamp(0, 1)


def strip(frames: Tensor) -> np.ndarray:
    """Frames (n c h w) in [0, 1] side by side with gaps, uint8 (h w 3)."""
    count, _, height, width = frames.shape
    canvas = np.full((height, count * (width + GAP) - GAP, 3), 255, np.uint8)
    for i, picture in enumerate(to_uint8(frames)):
        canvas[:, i * (width + GAP) : i * (width + GAP) + width] = picture
    return canvas


def to_uint8(frames: Tensor) -> np.ndarray:
    """(n c h w) in [0, 1] to uint8 (n h w 3); one channel becomes grey."""
    pictures = (frames.float().clamp(0, 1) * 255).round().byte().cpu()
    return rearrange(pictures.expand(-1, 3, -1, -1), "n c h w -> n h w c").numpy()


def heat(maps: Tensor) -> list[np.ndarray]:
    """Maps (k h w), from 0 to the largest value of them all, as colours, uint8 (h w 3) each."""
    from matplotlib import colormaps

    scaled = (maps / maps.max().clamp(min=1e-6)).sqrt().numpy()  # the root lifts weak influence into sight
    return [(colormaps["magma"](one)[..., :3] * 255).astype(np.uint8) for one in scaled]


def enlarge(picture: np.ndarray, factor: int) -> np.ndarray:
    """Every pixel (of h w 3 or t h w 3) becomes a square of `factor` pixels."""
    return picture.repeat(factor, axis=-3).repeat(factor, axis=-2)


def png(picture: np.ndarray) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="png", optimize=True)
    return buffer.getvalue()
