"""`wakedream inspect` for folders of latents: whose they are, and whether they are whole."""

from pathlib import Path

from wakedream.data.config import InspectConfig
from wakedream.data.manifest import shard_path
from wakedream.dynamics.latents import LatentStore
from wakedream.errors import ConfigError


def inspect_latents(config: InspectConfig) -> None:
    """Print what the folder holds and verify every byte; DataError, which says what to do, when it is damaged."""
    if config.repair or config.sheet:
        raise ConfigError(f"{config.path} holds latents: --repair and --sheet are for data sets. What is damaged here "
                          "is made anew: without these options, inspect says how")
    latents = LatentStore.open(config.path)
    print("\n".join(describe_latents(latents)))
    for number in sorted({span.shard for span in latents.spans}):
        latents.verify(number)
    print(f"checksums       all {len(shards(latents))} shards whole, all numbers finite")


def describe_latents(latents: LatentStore) -> list[str]:
    """The facts, a line each."""
    frames, stored = sum(span.frames for span in latents.spans), sum(path.stat().st_size for path in shards(latents))
    shape = f"{latents.num_latents}x{latents.latent_dim}"
    return [
        f"latents         {latents.path}",
        f"frames          {frames:,} in {len(latents.spans)} episodes, each {shape} (tokens, channels) with its past, "
        "and as many alone",
        f"size            {stored / 2**20:,.1f} MiB in {len(shards(latents))} shards",
        f"scale           {latents.scale:.4f}, the root of the mean squared deviation from their mean",
        f"tokenizer       {latents.tokenizer[:16]}",
        f"data set        {latents.data[:16]}",
    ]


def shards(latents: LatentStore) -> list[Path]:
    return [shard_path(latents.path, number) for number in sorted({span.shard for span in latents.spans})]
