"""`wakedream record`: play an environment and keep the episodes."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from wakedream.data.environments.play import cut
from wakedream.data.environments.workers import Play, Stage, Workers
from wakedream.data.record_config import RecordConfig
from wakedream.data.store import StoreWriter
from wakedream.errors import DataError, RunError
from wakedream.progress import ProgressBar


def record(config: RecordConfig) -> None:
    """Play until the data set has `config.frames` frames; the last episode may be cut.

    The same call resumes. Ctrl-C and SIGTERM keep all complete episodes and raise RunError, which says how to
    go on; DataError when the environment fails or the folder holds another recording.
    """
    play = Play(config.env, config.policy, config.size, config.seed, config.max_episode_frames)
    with _until_signal() as stopped, Workers(play, config.processes) as workers:
        stage = workers.stage(stopped)
        if stage:
            _fill(config, stage, workers, stopped)
        else:
            raise RunError("stopped before the first episode")


def _fill(config: RecordConfig, stage: Stage, workers: Workers, stopped: Callable[[], bool]) -> None:
    about = {"env": config.env, "policy": stage.policy, "seed": config.seed}
    with StoreWriter(Path(config.out), stage.spec, frame_shape=stage.frame_shape, held_out=config.held_out,
                     info=about) as writer:
        _same_recording(writer, about)
        if writer.frames >= config.frames:
            print(f"{config.out} has {writer.frames:,} frames already, nothing to do", file=sys.stderr)
            return
        first = max((info.info["episode"] + 1 for info in writer.added), default=0)
        with ProgressBar("recording", config.frames, "frames", initial=writer.frames) as bar:
            for episode in workers.episodes(first, stopped):
                writer.add(cut(episode, config.frames - writer.frames))
                bar.update(writer.frames, episodes=writer.num_episodes)
                if writer.frames >= config.frames:
                    return
        frames, episodes = writer.frames, writer.num_episodes
    raise RunError(f"stopped at {frames:,} of {config.frames:,} frames; {episodes} complete episodes are "
                   f"kept in {config.out}: run the same command again to go on")


def _same_recording(writer: StoreWriter, about: dict[str, object]) -> None:
    """Episodes of one data set come from one environment, policy and seed, or they would repeat."""
    for name, mine in about.items():
        there = writer.header.info.get(name)
        if there != mine:
            raise DataError(f"{writer.path} was recorded with {name} {there}, this command says {mine}: use "
                            "the same options to go on, or choose another --out")


@contextmanager
def _until_signal() -> Iterator[Callable[[], bool]]:
    """Yields a question, whether Ctrl-C or SIGTERM has come; a second signal acts as it would outside."""
    came = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield came.is_set
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(*_: object) -> None:
        came.set()
        restore()

    for number in before:
        signal.signal(number, note)
    try:
        yield came.is_set
    finally:
        restore()
