"""The preset `auto`: what a data set says of itself decides what nobody wants to choose. Imports no torch before it is
asked.

Of the data set: frame size, colours, lengths of episodes. Of the machine: a GPU or none. All else is as in the presets
`crafter`, on a GPU, and `demo`, without. The same data, machine and options make the same config, so the same command
resumes; an option given beside it goes before what is derived here.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wakedream.config import from_dict
from wakedream.perceptual.trunks import trunk
from wakedream.presets.dynamics import dynamics_preset
from wakedream.presets.tokenizer import tokenizer_preset
from wakedream.stages.config import DynamicsRun, TokenizerRun
from wakedream.tokenizer.config import TokenizerConfig

if TYPE_CHECKING:
    from wakedream.data.manifest import EpisodeInfo, Manifest

ENOUGH = 0.8  # share of the training frames that lie in episodes at least as long as a clip
SMALL = 96  # pixels of the shorter side, up to which the GPU's patches are 8 wide, beyond 16
LATENTS = (16, 512)  # least and most; 16 for 64x64 pixels, and as many more as there are more pixels
PACKED = 64  # latents above which two share a token of the dynamics model


def tokenizer_auto(arguments: Sequence[str]) -> TokenizerRun:
    """Derived from the data set: frame size, patches, latents, clips and batch."""
    data = value_of(arguments, "--data")
    base = tokenizer_preset(_base(arguments))
    return base if data is None else tokenizer_for(_manifest(data), base)


def dynamics_auto(arguments: Sequence[str]) -> DynamicsRun:
    """Derived from the data set and the tokenizer: latents, rows, window and batch."""
    data, tokenizer = value_of(arguments, "--data"), value_of(arguments, "--tokenizer")
    base = dynamics_preset(_base(arguments))
    if data is None or tokenizer is None:
        return base
    return dynamics_for(_manifest(data), tokenizer_config(Path(tokenizer)), base)


def tokenizer_for(data: "Manifest", base: TokenizerRun) -> TokenizerRun:
    height, width, channels = data.header.frame_shape
    model, least = base.model, min(height, width)
    patch = 16 if least > SMALL else min(model.patch_size, max(4, least // 4))
    length = clip_length(_train(data), base.loader.length)
    shape = replace(model, height=height, width=width, channels=channels, patch_size=patch, padded=None,
                    num_latents=latents_for(height, width), window=min(model.window, length))
    seen = channels == 3 and least >= trunk(base.objective.lpips_net).min_size
    objective = base.objective if seen else replace(base.objective, lpips_weight=0.0)
    work = base.loader.batch_size * base.loader.length * (model.num_patches + model.num_latents)
    batch = max(1, round(work / (length * (shape.num_patches + shape.num_latents))))
    return replace(base, model=shape, objective=objective,
                   loader=replace(base.loader, length=length, batch_size=batch))


def dynamics_for(data: "Manifest", tokenizer: TokenizerConfig, base: DynamicsRun) -> DynamicsRun:
    model, loader = base.model, base.loader
    count = tokenizer.num_latents
    packing = model.packing if count % model.packing == 0 else 1
    packing = max(packing, 2) if count > PACKED and count % 2 == 0 else packing
    longest = clip_length(_train(data), loader.length)
    short = min(loader.short, longest)
    length = longest // short * short
    shape = replace(model, num_latents=count, latent_dim=tokenizer.latent_dim, packing=packing,
                    window=min(model.window, length))
    work = loader.batch_size * loader.length * model.num_spatial
    batch = max(1, round(work / (length * shape.num_spatial)))
    return replace(base, model=shape, loader=replace(loader, length=length, short=short, batch_size=batch))


def clip_length(episodes: Sequence["EpisodeInfo"], most: int) -> int:
    """The longest up to `most` for which `ENOUGH` of the frames lie in episodes that are as long."""
    lengths = [episode.frames for episode in episodes]
    total = sum(lengths)
    fitting = [length for length in range(1, most + 1)
               if sum(frames for frames in lengths if frames >= length) >= ENOUGH * total]
    return fitting[-1]


def latents_for(height: int, width: int) -> int:
    """A multiple of 16."""
    return min(LATENTS[1], max(LATENTS[0], 16 * round(height * width / 64**2)))


def tokenizer_config(path: Path) -> TokenizerConfig:
    """Of a run, a checkpoint or a weights folder; read without loading it."""
    from wakedream.model.pretrained import read_about, weights_folder

    return from_dict(TokenizerConfig, read_about(weights_folder(path, ("tokenizer",)), "tokenizer")["model"])


def value_of(arguments: Sequence[str], option: str) -> str | None:
    """What follows it, as `--data X` or `--data=X`."""
    for word, following in zip(arguments, [*arguments[1:], None], strict=True):
        if word == option:
            return following
        if word.startswith(f"{option}="):
            return word.removeprefix(f"{option}=")
    return None


def described(run: Any) -> str:
    """In a line, what was derived."""
    model, loader = run.model, run.loader
    if isinstance(run, TokenizerRun):
        what = (f"frames of {model.height}x{model.width}, patches of {model.patch_size}, {model.num_latents} latents x "
                f"{model.latent_dim}")
    else:
        what = f"{model.num_latents} latents x {model.latent_dim} in {model.num_spatial} tokens"
    return f"auto: {what}, {loader.batch_size} clips of {loader.length} frames, window of {model.window}"


def _manifest(path: str) -> "Manifest":
    from wakedream.data.manifest import read_manifest

    return read_manifest(Path(path))


def _train(data: "Manifest") -> "list[EpisodeInfo]":
    chosen = [episode for episode in data.episodes if episode.split == "train"]
    return chosen or list(data.episodes)


def _base(arguments: Sequence[str]) -> str:
    if {"-h", "--help"} & set(arguments):
        return "crafter"
    from wakedream.device import pick_device

    return "demo" if pick_device(value_of(arguments, "--train.device") or "auto").type == "cpu" else "crafter"
