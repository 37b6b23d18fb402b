"""Two processes encode a data set together for test_patience.py: one takes longer than the run's own group waits."""

import datetime
import functools
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist

from wakedream.data.store import Store
from wakedream.dynamics import encode
from wakedream.stages.dynamics import encoded, latents_in
from wakedream.tokenizer.tokenizer import Tokenizer
from wakedream.training.distributed import join

LIMIT = 2.0  # seconds, in place of half an hour


def slow(*given, **options):
    time.sleep(2 * LIMIT)
    return whole(*given, **options)


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder, whole = Path(sys.argv[1]), encode._encode
    dist.init_process_group = functools.partial(dist.init_process_group, timeout=datetime.timedelta(seconds=LIMIT))
    with join("cpu") as place:
        if place.rank == 0:  # it has the only shard
            encode._encode = slow
        store = Store.open(folder / "data")
        tokenizer = Tokenizer.from_pretrained(folder / "tokenizer")
        latents = encoded(store, tokenizer, latents_in(folder / "tokenizer", store, tokenizer), place)
        (folder / f"latents.{place.rank}").write_text(latents.tokenizer)
        (folder / f"done.{place.rank}").touch()
