"""A world or an agent as one folder, small, with moments at which its dreams can begin."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from wakedream.data.episode import Episode
from wakedream.data.writer import StoreWriter
from wakedream.errors import ConfigError
from wakedream.evaluation.config import AGENT, TOKENIZER
from wakedream.evaluation.kinds import kind_of
from wakedream.play.export_config import ExportConfig
from wakedream.runs import disk_errors, located
from wakedream.world.model import World
from wakedream.world.policy import Agent
from wakedream.world.starts import Starts

MOMENTS = "starts"  # the folder of a data set, in that of a world


def export(config: ExportConfig) -> None:
    """ConfigError for a tokenizer alone, or data of another world; RunError where the folder holds something else."""
    if (kind := kind_of(config.run)) == TOKENIZER:
        raise ConfigError(f"{config.run} is a tokenizer, which dreams nothing: give the run of a dynamics model or of "
                          "an agent")
    made: World | Agent = (Agent if kind == AGENT else World).from_pretrained(config.run)
    world = made.world if isinstance(made, Agent) else made
    starts = None if config.data is None else Starts(world, config.data, config.length)
    with disk_errors(config.out):
        made.save_pretrained(config.out, config.precision)
        if starts is not None:
            keep_moments(starts, config.out / MOMENTS, config.moments, config.seed)
        size = sum(file.stat().st_size for file in config.out.rglob("*") if file.is_file())
    print(f"{config.out}: {size / 1e6:.1f} MB. Next: wakedream play {config.out}")


def moments_of(run: Path) -> Path | None:
    """Those that an exported world has with it."""
    folder = located(run) / MOMENTS
    return folder if folder.is_dir() else None


def keep_moments(starts: Starts, folder: Path, count: int, seed: int) -> None:
    """A data set of `count` short episodes. DataError where the folder is none."""
    store, rng = starts.store, np.random.default_rng(seed)
    info = {key: value for key, value in store.manifest.header.info.items() if key == "env"}
    with StoreWriter(folder, store.spec, frame_shape=store.frame_shape, held_out=0, info=info) as writer:
        for moment in starts.some(count, rng):
            writer.add(begun_anew(moment))


def begun_anew(part: Episode) -> Episode:
    """A part of an episode as one of its own: what led into its first frame is not known."""
    known, paid = part.has_action.copy(), part.has_reward.copy()
    known[0] = paid[0] = False
    events = {name: happened & (np.arange(len(happened)) > 0) for name, happened in part.events.items()}
    actions = {name: np.concatenate([np.zeros_like(values[:1]), values[1:]]) for name, values in part.actions.items()}
    return replace(part, actions=actions, has_action=known, has_reward=paid, events=events,
                   rewards=np.where(paid, part.rewards, 0).astype(np.float32), truncated=not part.terminated)
