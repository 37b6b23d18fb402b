"""A tokenizer that trains in milliseconds, its frames no multiple of its patches."""

from wakedream.tokenizer.config import TokenizerConfig

SMALL = TokenizerConfig(
    height=20,
    width=24,
    patch_size=8,
    dim=32,
    encoder_depth=2,
    decoder_depth=2,
    heads=4,
    mlp_dim=64,
    num_latents=4,
    latent_dim=8,
    pattern=("space", "time"),
    window=3,
)
