"""Which frames matter to a task, and the runs of frames and contexts drawn from them."""

from collections.abc import Sequence

import numpy as np

from wakedream.config import suggest
from wakedream.data.columns import SEPARATOR
from wakedream.data.manifest import EpisodeInfo
from wakedream.data.store import Store
from wakedream.errors import ConfigError, DataError

REWARD, EVENTS, ALL, BEST = "reward", "events", "all", "best:"
NEVER = np.iinfo(np.int64).max


def happens(store: Store, episodes: Sequence[EpisodeInfo], what: str) -> np.ndarray:
    """bool (n): at which frames of the episodes, one after the other, something relevant happens.

    what: reward (a known reward above 0), events (any), names of events with commas, best:0.25 (all frames of the
    quarter of the episodes with the highest returns), or all. ConfigError for what there is not, DataError where it
    never happens.
    """
    columns = [store.columns(info.id) for info in episodes]
    if what == ALL:
        found = [np.ones(info.frames, bool) for info in episodes]
    elif what.startswith(BEST):
        found = _best(columns, _share(what))
    elif what == REWARD:
        found = [(part["rewards"] > 0) & part["has_reward"] for part in columns]
    else:
        names = sorted(name for name in columns[0] if name.startswith("events" + SEPARATOR))
        if what != EVENTS:
            wanted = ["events" + SEPARATOR + name for name in what.split(",")]
            missing = [name.partition(SEPARATOR)[2] for name in wanted if name not in names]
            if missing:
                known = ", ".join(name.partition(SEPARATOR)[2] for name in names) or "none"
                raise ConfigError(f"--loader.relevant {what}: the data set has no event {', '.join(missing)}; it has "
                                  f"{known}. Or reward, events, best:0.25, all")
            names = wanted
        found = [np.any([part[name] for name in names], axis=0) if names else np.zeros(len(part["rewards"]), bool)
                 for part in columns]
    flat = np.concatenate(found)
    if not flat.any():
        raise DataError(f"{store.path}: nothing relevant ({what}) happens in {len(flat):,} frames of "
                        f"{len(episodes)} episodes, so there is nothing to clone: record play that succeeds, or choose "
                        "another --loader.relevant (events, best:0.25, all)")
    return flat


def of_tasks(store: Store, episodes: Sequence[EpisodeInfo], tasks: Sequence[str], relevant: str) -> list[np.ndarray]:
    """`happens` for each task: its event; of the task "reward" what is `relevant`. ConfigError for a task that is no
    event."""
    known = [REWARD, *(name.partition(SEPARATOR)[2] for name in store.columns(episodes[0].id)
                       if name.startswith("events" + SEPARATOR))]
    for task in tasks:
        if task not in known:
            raise suggest("task", task, known)
    return [happens(store, episodes, relevant if task == REWARD else task) for task in tasks]


def until(relevant: np.ndarray, firsts: np.ndarray) -> np.ndarray:
    """int64 (n): frames until something relevant happens in the frame's episode, 0 where it does, or NEVER.

    firsts: where each episode begins, and the end of the last. 0 0 1 0 -> 2 1 0 NEVER.
    """
    at = np.arange(len(relevant))
    following = np.minimum.accumulate(np.where(relevant, at, NEVER)[::-1])[::-1]
    return np.where(following < np.repeat(firsts[1:], np.diff(firsts)), following - at, NEVER)


def soon(relevant: np.ndarray, firsts: np.ndarray, reach: int) -> np.ndarray:
    """bool (n): frames at which, or within `reach` frames after which, something relevant happens in their episode.

    firsts: where each episode begins, and the end of the last. With reach 2: 0 0 0 0 1 0 -> 0 0 1 1 1 0.
    """
    return until(relevant, firsts) <= reach


def runs(relevant: np.ndarray, firsts: np.ndarray, length: int, reach: int) -> np.ndarray:
    """First frames of the relevant runs of `length` frames: something happens from the first frame on to `reach` past
    the last, in the episode that stands there. Runs go on over the ends of episodes, so that ends stand anywhere.

    DataError when there are fewer frames.
    """
    if len(relevant) < length:
        raise DataError(f"there are {len(relevant)} frames: expected {length}, a row's; shorter --loader.length, or "
                        "more data")
    count = len(relevant) - length + 1
    inside = np.concatenate([[0], relevant.cumsum()])
    near = soon(relevant, firsts, reach)
    return np.flatnonzero((inside[length:] > inside[:count]) | near[length - 1:])


def _best(columns: Sequence[dict[str, np.ndarray]], share: float) -> list[np.ndarray]:
    returns = np.array([part["rewards"][part["has_reward"]].sum() for part in columns])
    count = max(1, round(share * len(returns)))
    chosen = set(np.argsort(-returns, kind="stable")[:count].tolist())
    return [np.full(len(part["rewards"]), i in chosen) for i, part in enumerate(columns)]


def _share(what: str) -> float:
    try:
        share = float(what.removeprefix(BEST))
    except ValueError:
        share = -1.0
    if not 0 < share <= 1:
        raise ConfigError(f"--loader.relevant {what}: expected best: and a share above 0 and up to 1, as in best:0.25")
    return share
