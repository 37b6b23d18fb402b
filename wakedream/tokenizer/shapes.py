"""The shapes of the tokenizer presets, by name; how they are trained stands in presets/. Imports no torch."""

from wakedream.config import suggest
from wakedream.tokenizer.config import TokenizerConfig

SHAPES = {
    "debug": TokenizerConfig(
        height=64, width=64, patch_size=16, dim=64, encoder_depth=2, decoder_depth=2, heads=2, mlp_dim=128,
        num_latents=16, latent_dim=16, num_registers=2, pattern=("space", "time"), window=2),
    "demo": TokenizerConfig(
        height=64, width=64, patch_size=16, dim=192, encoder_depth=2, decoder_depth=2, heads=3, mlp_dim=384,
        num_registers=0, pattern=("space", "time"), window=2),
    "crafter": TokenizerConfig(
        height=64, width=64, patch_size=8, dim=384, encoder_depth=6, decoder_depth=6, heads=6, mlp_dim=1024, window=8),
    "crafter-small": TokenizerConfig(
        height=64, width=64, patch_size=8, dim=192, encoder_depth=4, decoder_depth=4, heads=3, mlp_dim=512,
        num_latents=32, num_registers=0, window=8),
    "seed": TokenizerConfig(
        height=64, width=64, patch_size=8, dim=256, encoder_depth=6, decoder_depth=6, heads=8, mlp_dim=1024,
        pattern=("dense",), window=16, shared=True),
    "paper": TokenizerConfig(
        height=360, width=640, padded=(384, 640), patch_size=16, dim=1024, encoder_depth=12, decoder_depth=12, heads=16,
        mlp_dim=4096, num_latents=512, latent_dim=16, window=8),
}


def shape(name: str) -> TokenizerConfig:
    """ConfigError with the nearest name if there is none."""
    if name not in SHAPES:
        raise suggest("tokenizer preset", name, SHAPES)
    return SHAPES[name]
