"""When one process of a run ends, the others say which, and each thing is said once."""

import contextlib
import datetime
import hashlib
import json
import math
import os
import signal
import threading
import time

import torch.distributed as dist

from wakedream.errors import Interrupted, RunError, UserError

PATIENCE = 3.0  # seconds from the alarm, for all who live to say so; torchrun leaves 30 s until it kills
LISTENING = 0.3  # seconds between looks whether there is an alarm
GOES_ON = "the last checkpoint stays, and the same command goes on from there, with any number of processes"


class Peers:
    """The processes of a run, as each takes its leave.

    Who finds a connection broken raises the alarm; a thread of each answers, though it may itself wait for somebody
    who is gone or for a GPU; who does not answer is named. They write to the store where they met: torchrun's own
    process holds it and outlives them all; without torchrun the first process does, and nobody answers when it is gone.
    """

    def __init__(self, rank: int, world_size: int):
        self.rank, self.world_size = rank, world_size
        store = dist.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
        self.store = dist.PrefixStore(f"wakedream/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
        self.over, self.until = threading.Event(), math.inf
        self.thread = threading.Thread(target=self._answer, daemon=True)
        self.thread.start()

    def leave(self, error: BaseException) -> BaseException:
        """What this process is to raise in place of `error`; its `told` is set where another process says it.

        A lost connection becomes a RunError that names who ended, and when. torchrun's error file gets whatever it is.
        """
        if is_lost(error):
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, signal.SIG_IGN)  # torchrun's, to end what ends here
            error = self._lost()
        elif isinstance(error, Interrupted):
            error.told = self.rank > 0  # all were asked to stop
        else:
            said = str(error) or type(error).__name__
            if isinstance(error, UserError):
                error.told = False
            with contextlib.suppress(RuntimeError):  # nobody is there to hear it
                self.store.set(f"ended/{self.rank}", json.dumps([said, isinstance(error, UserError)]))
                if isinstance(error, UserError):
                    error.told = self.store.add(f"said/{hashlib.sha256(said.encode()).hexdigest()}", 1) > 1
        if isinstance(error, Exception):
            _record(error)
        return error

    def close(self) -> None:
        self.over.set()
        self.thread.join(1.0)  # it may be asking a store that does not answer

    def _answer(self) -> None:
        """To the alarm: this process lives."""
        with contextlib.suppress(RuntimeError):  # the store is gone
            while not self.over.wait(LISTENING):
                if self.store.check(["alarm"]):
                    self.until = time.monotonic() + PATIENCE
                    self.store.set(f"lives/{self.rank}", "")
                    return

    def _lost(self) -> RunError:
        at, living, ended = self._ask()
        silent = sorted(set(range(self.world_size)) - living - ended.keys())
        of = f"of {self.world_size}"
        if silent:
            who = f"process{'es' if len(silent) > 1 else ''} {', '.join(map(str, silent))} {of}"
            what = f"{who} ended without a word at {at} (killed, or the host is gone)"
        elif ended:
            what = "; ".join(f"process {rank} {of} ended ({said})" for rank, (said, _) in sorted(ended.items()))
        else:
            what = f"the connection between the processes broke at {at}"
        error = RunError(f"{what}; {GOES_ON}")
        told = bool(ended) and not silent and all(printed for _, printed in ended.values())
        error.told = told or self.rank > min(living - ended.keys())
        return error

    def _ask(self) -> tuple[str, set[int], dict[int, list]]:
        """When the alarm was raised, who lives, and who has said why it ended."""
        living, ended, everyone = {self.rank}, dict[int, list](), set(range(self.world_size))
        at = f"{datetime.datetime.now().astimezone():%Y-%m-%d %H:%M:%S %z}"
        with contextlib.suppress(RuntimeError):  # the store is gone
            at = self.store.compare_set("alarm", "", at).decode()
            until = min(self.until, time.monotonic() + PATIENCE)
            while True:  # once at least: who was stuck comes late
                living |= {rank for rank in everyone - living if self.store.check([f"lives/{rank}"])}
                ended |= {rank: json.loads(self.store.get(f"ended/{rank}")) for rank in everyone - ended.keys()
                          if self.store.check([f"ended/{rank}"])}
                if living | ended.keys() == everyone or time.monotonic() > until:
                    break
                time.sleep(LISTENING / 3)
        return at, living, ended


def is_lost(error: BaseException | None) -> bool:
    """Whether it comes of a connection to another process that broke, however it was dressed on the way."""
    while error is not None:
        if isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


def _record(error: Exception) -> None:
    """To the error file that torchrun gives each process."""
    from torch.distributed.elastic.multiprocessing.errors import get_error_handler

    if "TORCHELASTIC_ERROR_FILE" in os.environ:
        get_error_handler().record_exception(error)
