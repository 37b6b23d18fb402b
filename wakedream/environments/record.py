"""Play an environment and keep the episodes."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from wakedream.data.shard import pack, unpack
from wakedream.data.writer import StoreWriter, begun, origin
from wakedream.environments.config import RecordConfig
from wakedream.environments.mixture import spelled
from wakedream.environments.play import cut
from wakedream.environments.policies import MakePolicy
from wakedream.environments.registry import NONE, check_policy
from wakedream.environments.workers import Interface, Play, Workers
from wakedream.errors import DataError, Interrupted
from wakedream.progress import ProgressBar


def record(config: RecordConfig, guests: Mapping[str, MakePolicy] = NONE) -> None:
    """Play until the data set has `config.frames` frames; the last episode may be cut. guests: further policies.

    The same call resumes. Ctrl-C and SIGTERM keep all complete episodes and raise Interrupted, which says how to
    go on. DataError when the environment fails or the folder holds another recording.
    """
    policy = config.policy and spelled(config.policy)
    check_policy(policy, config.env, guests)
    play = Play(config.env, policy, config.frame_size, config.seed, config.max_episode_frames, guests)
    with _signals() as came, Workers(play, config.processes) as workers:
        interface = workers.interface(lambda: bool(came))
        kept = _fill(config, interface, workers, lambda: bool(came)) if interface else "before the first episode"
        if came and kept:
            raise Interrupted(came[0], f"stopped {kept}: run the same command again to go on")


def _fill(config: RecordConfig, interface: Interface, workers: Workers, stopped: Callable[[], bool]) -> str:
    """"" when there are frames enough, else what there is."""
    about = {"env": config.env, "policy": interface.policy, "seed": config.seed}
    _same_recording(Path(config.out), about)
    with StoreWriter(Path(config.out), interface.spec, frame_shape=interface.frame_shape, held_out=config.held_out,
                     info=about) as writer:
        if writer.frames >= config.frames:
            print(f"{config.out} has {writer.frames:,} frames already, nothing to do", file=sys.stderr)
            return ""
        first = max((info.info["episode"] + 1 for info in writer.added), default=0)
        with ProgressBar("recording", config.frames, "frames", initial=writer.frames) as bar:
            for packed in workers.episodes(first, stopped):
                room = config.frames - writer.frames
                writer.add_packed(packed if packed.info.frames <= room else
                                  pack(cut(unpack(packed, interface.frame_shape), room)))
                bar.update(writer.frames, episodes=writer.num_episodes)
                if writer.frames >= config.frames:
                    return ""
        return (f"at {writer.frames:,} of {config.frames:,} frames; {writer.num_episodes} complete episodes are "
                f"kept in {config.out}")


def _same_recording(out: Path, about: dict[str, object]) -> None:
    """Episodes of one data set come from one environment, policy and seed, or they would repeat. Looked at before
    anything is written."""
    header = begun(out)
    if header is not None and "env" not in header.info:
        raise DataError(f"{out} was {origin(header.info)}, which a recording cannot go on with: choose another --out")
    for name, mine in about.items() if header else ():
        there = header.info.get(name) if header else None
        if there != mine:
            raise DataError(f"{out} was recorded with {name} {there}, this command says {mine}: use "
                            "the same options to go on, or choose another --out")


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Yields the list that Ctrl-C or SIGTERM will stand in; a second signal acts as it would outside."""
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, _: object) -> None:
        came.append(number)
        restore()

    for number in before:
        signal.signal(number, note)
    try:
        yield came
    finally:
        restore()
