"""Processes that play and compress episodes side by side and hand them over in the order of their numbers."""

import contextlib
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from wakedream.data.actions import ActionSpec
from wakedream.data.episode import Episode
from wakedream.data.shard import Packed, pack
from wakedream.environments.pixels import Size
from wakedream.environments.registry import environment
from wakedream.errors import DataError, RunError, UserError

AHEAD = 8  # episodes per process that may be played before an earlier one is done
PATIENCE = 5.0  # seconds for an environment to close
POLL = 0.1  # seconds between looks at whether to stop


@dataclass(frozen=True)
class Play:
    """What every process plays."""

    env: str
    policy: str | None
    size: Size | None
    seed: int
    max_frames: int | None


@dataclass(frozen=True)
class Interface:
    """What a process found when it had made the environment."""

    spec: ActionSpec
    frame_shape: tuple[int, int, int]
    policy: str


class Workers:
    """`with Workers(play, 2) as workers: workers.interface(stopped); for episode in workers.episodes(0, stopped): ...`

    Episode i is the same whatever the number of processes. What an environment raises arrives as a DataError.
    """

    def __init__(self, play: Play, processes: int):
        self.play = play
        self.scratch = tempfile.TemporaryDirectory(prefix="wakedream-", ignore_cleanup_errors=True)
        context = multiprocessing.get_context("spawn")
        self.workers: list[tuple[Any, Any]] = []
        with _quiet_start():
            for _ in range(processes):
                mine, theirs = context.Pipe()
                # no daemon: those may not start processes, as many simulators do
                process = context.Process(target=_work, args=(play, theirs, self.scratch.name), daemon=False)
                try:
                    process.start()
                except BaseException:
                    self.__exit__()  # or those begun would wait for ever, and Python for them
                    raise
                theirs.close()
                self.workers.append((process, mine))

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        for process, connection in self.workers:
            connection.close()
            process.terminate()
        for process, _ in self.workers:
            process.join(PATIENCE)
            process.kill()
            process.join()
        self.scratch.cleanup()

    def interface(self, stopped: Callable[[], bool]) -> Interface | None:
        """What the environment is, once all processes have made it; None when stopped before."""
        found = []
        waiting = [connection for _, connection in self.workers]
        while waiting and not stopped():
            for connection in wait(waiting, POLL):
                found.append(self._receive(connection))
                waiting.remove(connection)
        return None if waiting else found[0]

    def episodes(self, first: int, stopped: Callable[[], bool]) -> Iterator[Packed]:
        """Episodes first, first + 1, ... until `stopped()`."""
        done: dict[int, Packed] = {}
        idle, following, begun = [connection for _, connection in self.workers], first, first
        while not stopped():
            while idle and begun < following + AHEAD * len(self.workers):
                idle.pop().send(begun)
                begun += 1
            busy = [connection for _, connection in self.workers if connection not in idle]
            for connection in wait(busy, POLL):
                index, episode = self._receive(connection)
                done[index] = episode
                idle.append(connection)
            while following in done:  # all that wait: one a round would leave as many processes idle
                yield done.pop(following)
                following += 1

    def _receive(self, connection: Any) -> Any:
        try:
            message = connection.recv()
        except (EOFError, ConnectionResetError):
            process = next(process for process, mine in self.workers if mine is connection)
            process.join()
            raise RunError(f"a process that plays {self.play.env} ended with exit code {process.exitcode}: "
                           "out of memory? Use fewer --processes; the same command goes on") from None
        if isinstance(message, Exception):
            raise message
        return message


def _work(play: Play, connection: Connection, scratch: str) -> None:
    """A process's life: make the environment, then play whatever episode it is asked for."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the parent decides
    sys.unraisablehook = _unraisable
    made: list[Any] = []
    with contextlib.suppress(_Stopped):
        signal.signal(signal.SIGTERM, _stop)
        _serve(play, connection, scratch, made)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for env in made:  # ViZDoom has a process of its own
        env.close()


def _serve(play: Play, connection: Connection, scratch: str, made: list[Any]) -> None:
    from wakedream.environments.play import play_episode

    asked: int | None = None
    try:
        known = environment(play.env)
        _see_beside(play.env)
        if known.litters:
            sys.path[:] = [os.path.abspath(entry) for entry in sys.path]
            os.chdir(scratch)
        env = known.make(play.size)
        made.append(env)
        first = play_episode(play.env, env, play.policy, play.seed, 0, max_frames=1)
        spec = ActionSpec.from_space(env.action_space)
        connection.send(Interface(spec, first.video.shape[1:], play.policy or known.default_policy))
        while (asked := _next(connection)) is not None:
            episode = play_episode(play.env, env, play.policy, play.seed, asked, play.max_frames)
            _check(episode, spec, first.video.shape[1:])
            connection.send((asked, pack(episode)))  # here: compressing takes as long as playing a fast game
    except (Exception, SystemExit) as error:  # whatever foreign code raises must reach the parent
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it will end us: nothing more is to be said of that
        with contextlib.suppress(OSError):  # the parent has gone
            connection.send(_told(error, play, asked))


def _next(connection: Connection) -> int | None:
    """The number of the episode to play; None when the parent has gone."""
    try:
        return int(connection.recv())
    except (EOFError, ConnectionResetError):
        return None


class _Stopped(BaseException):
    """The parent wants no more. No SystemExit, which an environment may raise itself."""


def _stop(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise _Stopped


def _unraisable(swallowed: Any) -> None:
    """Where Python clears up it prints and drops what is raised. A stop there is no news: the next episode ends it."""
    if swallowed.exc_type is not _Stopped:
        sys.__unraisablehook__(swallowed)


def _see_beside(env: str) -> None:
    """A module that lies where the command runs is found, as by `python -m`."""
    top = env.rpartition(":")[0].partition(".")[0]
    if top and any(os.path.exists(top + ending) for ending in (".py", os.sep)):
        sys.path.insert(0, os.getcwd())


def _check(episode: Episode, spec: ActionSpec, frame_shape: tuple[int, int, int]) -> None:
    """As `Episode.check`, with the way out where there is one."""
    if episode.video.shape[1:] != frame_shape:
        raise DataError(f"frames of {episode.video.shape[1:]} (height, width, channels), {frame_shape} before: choose "
                        "a --size")
    episode.check(spec, frame_shape)


def _told(error: BaseException, play: Play, asked: int | None) -> Exception:
    """The error as the user is to see it: of which environment and, once it plays, which episode."""
    if isinstance(error, UserError) and asked is None:
        return error
    about = f"the environment {play.env} failed ({'making it' if asked is None else f'episode {asked}'})"
    if isinstance(error, UserError):
        return DataError(f"{about}: {error}")
    where = traceback.extract_tb(error.__traceback__)[-1]
    return DataError(f"{about}: {type(error).__name__}: {error} ({where.filename}:{where.lineno})")


@contextlib.contextmanager
def _quiet_start() -> Iterator[None]:
    """Processes started here use one thread in numerical libraries, and leave Ctrl-C to the parent."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    main = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN) if main else None
    try:
        yield
    finally:
        if main:
            signal.signal(signal.SIGINT, handler)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
