"""Processes in which environments are played: how they begin, how what fails there is told, how they end."""

import contextlib
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any, Self

from wakedream.environments.pixels import AnySize
from wakedream.environments.registry import environment
from wakedream.errors import DataError, RunError, UserError

PATIENCE = 5.0  # seconds for an environment to close


class Life:
    """What a process has: its connection to the parent, the environments that it made, what it was asked for."""

    def __init__(self, env_name: str, connection: Connection, scratch: str):
        self.env_name, self.connection, self.scratch = env_name, connection, scratch
        self.made: list[Any] = []
        self.asked: int | None = None  # the episode that is being played

    def make(self, size: AnySize) -> Any:
        known = environment(self.env_name)
        _see_beside(self.env_name)
        if known.litters:
            sys.path[:] = [os.path.abspath(entry) for entry in sys.path]
            os.chdir(self.scratch)
        self.made.append(known.make(size))
        return self.made[-1]

    def next(self) -> Any:
        """What the parent asks for; None when it has gone."""
        try:
            return self.connection.recv()
        except (EOFError, ConnectionResetError):
            return None


class Processes:
    """`with Processes(env_name, serve, tasks)`: one process for each task, in which `serve(task, life)` runs.

    serve  a function of a module, which answers what comes from `life.next()` until that is None
    """

    remedy = "Use fewer processes"  # where one was killed

    def __init__(self, env_name: str, serve: Callable[[Any, Life], None], tasks: Sequence[Any]):
        self.env_name = env_name
        self.scratch = tempfile.TemporaryDirectory(prefix="wakedream-", ignore_cleanup_errors=True)
        context = multiprocessing.get_context("spawn")
        self.workers: list[tuple[Any, Any]] = []
        with _quiet_start():
            for task in tasks:
                mine, theirs = context.Pipe()
                # no daemon: those may not start processes, as many simulators do
                process = context.Process(target=_live, args=(serve, task, env_name, theirs, self.scratch.name),
                                          daemon=False)
                try:
                    process.start()
                except BaseException:
                    self.__exit__()  # or those begun would wait for ever, and Python for them
                    raise
                theirs.close()
                self.workers.append((process, mine))

    def __enter__(self) -> Self:
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

    def receive(self, connection: Any) -> Any:
        """The answer; what the environment raised is raised here, as a UserError."""
        try:
            message = connection.recv()
        except (EOFError, ConnectionResetError):
            process = next(process for process, mine in self.workers if mine is connection)
            process.join()
            raise RunError(f"a process that plays {self.env_name} ended with exit code {process.exitcode}: "
                           f"out of memory? {self.remedy}") from None
        if isinstance(message, Exception):
            raise message
        return message


@contextlib.contextmanager
def telling(env_name: str, asked: int | None) -> Iterator[None]:
    """What an environment raises in here becomes a UserError, as `told` tells it."""
    try:
        yield
    except (Exception, SystemExit) as error:
        if (as_told := told(error, env_name, asked)) is error:
            raise
        raise as_told from error


def told(error: BaseException, env_name: str, asked: int | None) -> Exception:
    """The error as the user is to see it: of which environment and, once it plays, which episode."""
    if isinstance(error, UserError) and asked is None:
        return error
    about = f"the environment {env_name} failed ({'making it' if asked is None else f'episode {asked}'})"
    if isinstance(error, UserError):
        return DataError(f"{about}: {error}")
    where = traceback.extract_tb(error.__traceback__)[-1]
    return DataError(f"{about}: {type(error).__name__}: {error} ({where.filename}:{where.lineno})")


def _live(serve: Callable[[Any, Life], None], task: Any, env_name: str, connection: Connection, scratch: str) -> None:
    """A process's life: serve, say what fails, close what was made."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the parent decides
    sys.unraisablehook = _unraisable
    life = Life(env_name, connection, scratch)
    with contextlib.suppress(_Stopped):
        signal.signal(signal.SIGTERM, _stop)
        try:
            serve(task, life)
        except (Exception, SystemExit) as error:  # whatever foreign code raises must reach the parent
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it will end us: nothing more is to be said of that
            with contextlib.suppress(OSError):  # the parent has gone
                connection.send(told(error, env_name, life.asked))
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for env in life.made:  # ViZDoom has a process of its own
        env.close()


class _Stopped(BaseException):
    """The parent wants no more. No SystemExit, which an environment may raise itself."""


def _stop(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise _Stopped


def _unraisable(swallowed: Any) -> None:
    """Where Python clears up it prints and drops what is raised. A stop there is no news: the next episode ends it. Nor
    is one that arrives while stops are turned off, since all is over then."""
    late = isinstance(swallowed.exc_value, OSError) and "ignored due to race condition" in str(swallowed.exc_value)
    if swallowed.exc_type is not _Stopped and not late:
        sys.__unraisablehook__(swallowed)


def _see_beside(env: str) -> None:
    """A module that lies where the command runs is found, as by `python -m`."""
    top = env.rpartition(":")[0].partition(".")[0]
    if top and any(os.path.exists(top + ending) for ending in (".py", os.sep)):
        sys.path.insert(0, os.getcwd())


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
