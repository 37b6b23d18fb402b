"""`wakedream reconstruct`: truth, reconstruction and error of a video or a data set, side by side."""

from collections.abc import Iterator

import numpy as np
import torch

from wakedream import runs
from wakedream.data.film import frame_rate
from wakedream.data.images import images_in
from wakedream.data.manifest import FILE
from wakedream.data.store import Store
from wakedream.data.video import Mp4, read_video
from wakedream.device import pick_device
from wakedream.errors import ConfigError, DataError
from wakedream.evaluation.config import ReconstructConfig
from wakedream.evaluation.metrics import psnr
from wakedream.evaluation.page.pictures import enlarge, error, strip
from wakedream.evaluation.tokenizer.reconstruction import check_data
from wakedream.progress import ProgressBar
from wakedream.tokenizer.tokenizer import Tokenizer

DATA_FPS = 10.0
HEIGHT = 256  # pixels, about: small frames are enlarged to it
READ_FRAMES = 64  # of a data set at once


def reconstruct(config: ReconstructConfig) -> None:
    """Write `config.out`; one frame at a time with the past in the tokenizer's caches, so any length fits."""
    if config.out.suffix.lower() != ".mp4":
        raise ConfigError(f"--out {config.out}: expected a name that ends in .mp4")
    runs.check_file(config.out, [config.source])
    tokenizer = Tokenizer.from_pretrained(config.run).to(pick_device(config.device)).eval()
    frames, fps = _source(config, tokenizer)
    scale = config.scale or max(1, round(HEIGHT / tokenizer.config.height))
    total, count = 0.0, 0
    with runs.atomic(config.out) as beside, Mp4(beside, fps) as video, _bar(config) as bar:
        for truth, made in reconstructed(tokenizer, frames):
            video.add(enlarge(strip(torch.cat([truth, made, error(made, truth)])), scale))
            total, count = total + float((made - truth).square().mean()), count + 1
            bar.advance(1)
            if count == config.max_frames:
                break
    print(f"{config.out}: {count} frames, PSNR {psnr(total / count):.2f} dB; truth | reconstruction | error x 4")


def reconstructed(
    tokenizer: Tokenizer, frames: Iterator[tuple[np.ndarray, bool]]
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """From (frame uint8 (h w c), does it start an episode): truth, reconstruction (1 c h w) in [0, 1]."""
    stream, device = tokenizer.stream(1), tokenizer.mask_token.device
    for frame, starts in frames:
        if starts:
            stream.reset()
        truth = torch.from_numpy(frame).to(device).permute(2, 0, 1)[None].float() / 255
        yield truth, stream.picture(stream.encode(truth))


def _source(config: ReconstructConfig, tokenizer: Tokenizer) -> tuple[Iterator[tuple[np.ndarray, bool]], float]:
    """Frames, each with whether it starts an episode; and frames per second."""
    images = config.source.is_dir() and not (config.source / FILE).exists() and bool(images_in(config.source))
    if config.source.is_dir() and not images:
        store = Store.open(config.source)
        check_data(tokenizer, store)
        return _episodes(store), config.fps or DATA_FPS
    if tokenizer.config.channels != 3:
        raise DataError(
            f"the tokenizer takes {tokenizer.config.channels} channels, a video file has 3: give a data set"
        )
    own_rate = None if images else frame_rate(config.source)  # images have no times: --fps is what is written
    video = read_video(config.source, tokenizer.config.frame_size, config.fit, None if images else config.fps)
    first = next(video)  # what is no video says so before anything is written
    return _video(first, video), config.fps or own_rate or DATA_FPS


def _video(first: np.ndarray, rest: Iterator[np.ndarray]) -> Iterator[tuple[np.ndarray, bool]]:
    yield first, True
    for frame in rest:
        yield frame, False


def _episodes(store: Store) -> Iterator[tuple[np.ndarray, bool]]:
    for info in store.split(store.judging_split):
        for start in range(0, info.frames, READ_FRAMES):
            part = store.read(info.id, start, min(start + READ_FRAMES, info.frames)).video
            for i, frame in enumerate(part):
                yield frame, start + i == 0


def _bar(config: ReconstructConfig) -> ProgressBar:
    return ProgressBar("reconstructing", config.max_frames, "frames")
