"""One recording, several players: `scripted:0.6,random:0.4`. Imports nothing that plays."""

import math
from bisect import bisect
from itertools import accumulate

from wakedream.config import check


def shares(policy: str) -> dict[str, float]:
    """Players in order of name, with shares that sum to 1: {"random": 0.4, "scripted": 0.6}. A name alone has it all.

    ConfigError for a share that is no positive number, one that is missing, and a name given twice.
    """
    if ":" not in policy and "," not in policy:
        return {policy: 1.0}
    found = dict[str, float]()
    for part in policy.split(","):
        name, _, share = (word.strip() for word in part.partition(":"))
        wrong = f"--policy {policy}: expected NAME or NAME:SHARE,NAME:SHARE,... with shares above 0, got "
        check(bool(name) and _positive(share), f"{wrong}'{part}'")
        check(name not in found, f"{wrong}'{name}' twice")
        found[name] = float(share)
    whole = sum(found.values())
    check(math.isfinite(whole), f"--policy {policy}: expected smaller shares, their sum is too large")
    # six digits, which `spelled` keeps: the recording says all that decides who plays
    return {name: float(f"{found[name] / whole:.6g}") for name in sorted(found)}


def spelled(policy: str) -> str:
    """The mix in one way of the many in which it can be written; a name alone is itself."""
    mix = shares(policy)
    return next(iter(mix)) if len(mix) == 1 else ",".join(f"{name}:{share:.6g}" for name, share in mix.items())


def drawn(policy: str, chance: float) -> str:
    """Who of the mix plays, by a number drawn from 0 up to 1."""
    mix = shares(policy)
    ends = list(accumulate(mix.values()))
    return list(mix)[min(bisect(ends, chance * ends[-1]), len(mix) - 1)]


def _positive(share: str) -> bool:
    try:
        return 0 < float(share) < math.inf
    except ValueError:
        return False
