"""The geometry at which tokenizers have been compared, and those of presets. Imports no torch."""

from dataclasses import replace

from wakedream.data.config import LoaderConfig
from wakedream.presets.dynamics import PRESETS as DYNAMICS
from wakedream.presets.tokenizer import PRESETS, tokenizer_preset
from wakedream.stages.config import TokenizerRun
from wakedream.tokenizer.config import TokenizerConfig, TokenizerObjectiveConfig
from wakedream.training.config import OptimConfig, TrainConfig

OTHERS = {"coinrun": "crafter"}  # presets of dynamics models on latents of a tokenizer of another name


def reference() -> TokenizerRun:
    """64x64, 8x8 patches, d = 256, 6 + 6 layers, 16 latents x 32, clips of 16 frames, MSE alone."""
    model = TokenizerConfig(height=64, width=64, patch_size=8, dim=256, encoder_depth=6, decoder_depth=6, heads=8,
                            mlp_dim=1024, num_latents=16, latent_dim=32, num_registers=0)
    return TokenizerRun(model, TokenizerObjectiveConfig(lpips_weight=0.0), LoaderConfig(length=16), OptimConfig(),
                        TrainConfig())


def known_geometries() -> list[str]:
    return list(dict.fromkeys(["reference", *PRESETS, *DYNAMICS]))


def geometry(name: str, length: int | None = None) -> TokenizerRun:
    """The reference or a preset, with clips of `length` frames if given."""
    run = reference() if name == "reference" else tokenizer_preset(OTHERS.get(name, name))
    return run if length is None else replace(run, loader=replace(run.loader, length=length))
