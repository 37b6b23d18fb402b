"""Laws of the processes that play: episodes in the order of their numbers, and a slow one idles nobody for long."""

import threading
from contextlib import suppress
from itertools import islice
from multiprocessing import Pipe

from wakedream.environments import workers as workers_module
from wakedream.environments.workers import AHEAD, Workers

PROCESSES = 4


def test_after_a_slow_episode_all_processes_are_busy_again(monkeypatch):
    monkeypatch.setattr(workers_module, "POLL", 60)  # nobody is woken by the clock
    waiting = AHEAD * PROCESSES  # as many may be asked for before episode 0 is there
    others, together = threading.Semaphore(0), threading.Barrier(PROCESSES)

    def play(connection):
        with suppress(EOFError, threading.BrokenBarrierError):
            while True:
                index = connection.recv()
                if index == 0:
                    for _ in range(waiting - 1):
                        others.acquire(timeout=5)
                elif index < waiting:
                    others.release()
                else:
                    together.wait(timeout=5)  # passes when all of them play at the same time
                connection.send((index, index))

    pipes = [Pipe() for _ in range(PROCESSES)]
    threads = [threading.Thread(target=play, args=(theirs,)) for _, theirs in pipes]
    for thread in threads:
        thread.start()
    workers = Workers.__new__(Workers)  # without the processes: the threads above are them
    workers.workers = [(None, mine) for mine, _ in pipes]
    came = list(islice(workers.episodes(0, lambda: together.broken), 2 * waiting))
    together.abort()
    for thread, (mine, _) in zip(threads, pipes, strict=True):
        mine.close()
        thread.join()
    assert came == list(range(2 * waiting))
