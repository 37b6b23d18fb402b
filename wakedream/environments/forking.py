"""One environment goes on from where another of its kind stands, whatever it is made of."""

import copy
from typing import Any

import gymnasium


def take_over(mine: gymnasium.Env, its: gymnasium.Env) -> None:
    """All attributes that can be copied, of every wrapper; an emulator's state where it gives it out, as ALE does.

    What cannot be copied (windows, surfaces, what lies in other libraries) each keeps for itself: if that holds some of
    the state, the two go apart, which who asks must look for.
    """
    mine_now: Any = mine
    its_now: Any = its
    while True:
        _take_attributes(mine_now, its_now)
        if its_now is its_now.unwrapped:
            break
        mine_now, its_now = mine_now.env, its_now.env
    if hasattr(its_now, "clone_state") and hasattr(its_now, "restore_state"):
        mine_now.restore_state(its_now.clone_state(include_rng=True))


def _take_attributes(mine: Any, its: Any) -> None:
    own = {name: value for name, value in vars(its).items() if name != "env"}
    kept = [name for name, value in own.items() if not _copies(value)]
    memo = {id(own[name]): getattr(mine, name, None) for name in kept}  # also where others refer to them
    vars(mine).update(copy.deepcopy({name: value for name, value in own.items() if name not in kept}, memo))


def _copies(value: Any) -> bool:
    try:
        copy.deepcopy(value)
    except Exception:
        return False
    return True
