"""`wakedream dream`: what a dynamics model makes of held-out clips, or of nothing, as a video."""

import numpy as np
import torch

from wakedream import runs
from wakedream.data.store import Store
from wakedream.data.trajectory import Actions, Trajectory
from wakedream.data.video import Mp4
from wakedream.device import pick_device
from wakedream.dynamics.clip import LatentClip
from wakedream.evaluation.commands import held, parse, random_actions
from wakedream.evaluation.config import DreamConfig
from wakedream.evaluation.dynamics.pictures import beside, side_by_side
from wakedream.evaluation.dynamics.rollouts import decoded_from, roll_out, until
from wakedream.evaluation.dynamics.windows import LEAST, check_world, dream_clips
from wakedream.evaluation.page.pictures import ERROR_GAIN, GAP, enlarge
from wakedream.notation import Latents
from wakedream.progress import ProgressBar
from wakedream.world.model import World

HEIGHT = 128  # pixels, about: small frames are enlarged to it
KEPT = 8  # frames for which a random action is held


def dream(config: DreamConfig) -> None:
    """Write `config.out`; fewer or shorter dreams than asked for where the data has no more, which is said.

    CheckpointError when the run is no dynamics model's, ConfigError for actions that there are not and data of other
    frames, DataError for data of other actions, or without a held-out episode beyond the context."""
    runs.check_file(config.out, filter(None, (config.run, config.data)))  # no dream is lost for want of a place
    world = World.from_pretrained(config.run).to(pick_device(config.device))
    scale = config.scale or max(1, round(HEIGHT / world.tokenizer.config.height))
    with runs.atomic(config.out) as file:
        videos, what = _continued(config, world) if config.data else _from_nothing(config, world)
        with Mp4(file, config.fps) as mp4:
            for frames in zip(*videos, strict=True):
                mp4.add(enlarge(_below(frames), scale))
    print(f"{config.out}: {what}, K = {config.sampling_steps}, seed {config.seed}")


def _continued(config: DreamConfig, world: World) -> tuple[list[np.ndarray], str]:
    assert config.data is not None
    store = Store.open(config.data)
    check_world(world, store)
    frames = _reach(config, store)
    other = config.actions not in ((), ("true",))
    given = _actions(config, world, config.clips) if other else {}
    clips = dream_clips(world.tokenizer, store, config.clips, config.context, frames, seed=config.seed, least=frames)
    clip = clips.clip
    if other:
        clip = until(clip, config.context, frames)
        for name, values in given.items():
            clip.actions[name][:, config.context:] = values[:len(clip.latents), :frames]
    dreamed = _roll(config, world, clip, config.context)
    shown = f"truth | dream | difference x {ERROR_GAIN}" if not other else "truth | dream, under other actions"
    return (beside(world.tokenizer, clips, dreamed, difference=not other),
            f"{shown}; {_said(config, len(clip.latents), frames)} after {config.context} of context")


def _reach(config: DreamConfig, store: Store) -> int:
    """Frames to dream: as many as asked for if any episode goes so far, else as many as allow for a dream of every
    clip in an episode of its own, but no fewer than `LEAST` for the sake of that."""
    beyond = sorted((info.frames - config.context for info in store.split(store.judging_split)), reverse=True)
    if beyond[0] >= config.frames or beyond[0] < 1:  # the latter is refused where clips are made
        return config.frames
    return max(beyond[min(config.clips, len(beyond)) - 1], min(LEAST, beyond[0]))


def _said(config: DreamConfig, clips: int, frames: int) -> str:
    """How many dreams of how many frames, and what keeps them from being what was asked for."""
    few = f" (of {config.clips}: the data has no more clips so long)" if clips < config.clips else ""
    short = f" (of {config.frames}: the episodes are no longer)" if frames < config.frames else ""
    return f"{clips} dream{'s' * (clips > 1)}{few} of {frames} frames{short}"


def _from_nothing(config: DreamConfig, world: World) -> tuple[list[np.ndarray], str]:
    own = world.tokenizer.config
    actions = _actions(config, world, config.clips)
    has_action = torch.full((config.clips, config.frames), bool(actions))
    has_action[:, 0] = False  # as an episode's first frame
    clip = LatentClip(torch.zeros(config.clips, config.frames, own.num_latents, own.latent_dim),
                      Trajectory.of_actions(actions, has_action), torch.zeros(has_action.shape, dtype=torch.int64))
    frames = decoded_from(world.tokenizer, _roll(config, world, clip, 0), 0).cpu()
    return [side_by_side(frames)], f"{config.clips} dreams of {config.frames} frames from nothing"


def _actions(config: DreamConfig, world: World, rows: int) -> Actions:
    spec = world.dynamics.actions
    if config.actions in ((), ("random",)):
        return random_actions(spec, rows, config.frames, KEPT, config.seed)
    return held(parse(spec, config.actions), rows, config.frames)


def _roll(config: DreamConfig, world: World, clip: LatentClip, context: int) -> Latents:
    with ProgressBar("dreaming", len(clip.latents) * (clip.latents.shape[1] - context), "frames") as bar:
        return roll_out(world.dynamics, clip, context, sampling_steps=config.sampling_steps, seed=config.seed,
                        advance=bar.advance)


def _below(pictures: tuple[np.ndarray, ...]) -> np.ndarray:
    gap = np.full((GAP, *pictures[0].shape[1:]), 255, np.uint8)
    return np.concatenate([part for picture in pictures for part in (picture, gap)][:-1])
