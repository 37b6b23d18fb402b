"""The GPUs that the commands of a benchmark share; `agents.py` and `games.py` ask for them."""

import argparse
import os
import queue
from collections.abc import Iterable


def add_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--gpus", nargs="*", default=[""], help="numbers of GPUs; default: what there is")


def to_lend(gpus: Iterable[str]) -> "queue.Queue[str]":
    """Whoever takes one out puts it back."""
    free: queue.Queue[str] = queue.Queue()
    for gpu in gpus:
        free.put(gpu)
    return free


def environment(gpu: str) -> dict[str, str]:
    """Of a command that sees this one alone; "": all."""
    return os.environ | ({"CUDA_VISIBLE_DEVICES": gpu} if gpu else {})
