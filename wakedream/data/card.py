"""The data card: what happened in a data set, who played, what was earned. No frame is decoded."""

from dataclasses import dataclass

import numpy as np

from wakedream.data.store import Store

QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Card:
    """Counts over all episodes; an episode of which no reward is known has no return.

    known_rewards   share of the frames, episodes' first ones left out, into which none can have come
    events          name -> episodes that had it, times in all
    players         policy -> episodes; {} where no policy is told
    returns         policy, or None for all episodes -> the sums of an episode's known rewards
    """

    known_rewards: float
    events: dict[str, tuple[int, int]]
    players: dict[str, int]
    returns: dict[str | None, list[float]]


def card(store: Store) -> Card:
    """DataError when what stands beside the frames is damaged."""
    known, counts = 0, {name: [0, 0] for name in store.events}
    players, returns = dict[str, int](), dict[str | None, list[float]]({None: []})
    for info in store.episodes:
        columns = store.columns(info.id)
        for name, count in counts.items():
            times = int(columns[f"events/{name}"].sum())
            count[0] += times > 0
            count[1] += times
        rewarded = int(columns["has_reward"].sum())
        known += rewarded
        player = str(info.info["policy"]) if "policy" in info.info else None
        if player is not None:
            players[player] = players.get(player, 0) + 1
        for whose in {None, player} if rewarded else ():
            returns.setdefault(whose, []).append(info.total_reward)
    possible = store.frames() - len(store.episodes)
    return Card(known / max(possible, 1), {name: (episodes, times) for name, (episodes, times) in counts.items()},
                dict(sorted(players.items())), returns)


def described(found: Card, episodes: int) -> list[str]:
    """A line for each fact."""
    lines = [f"event           {name}: in {had:,} of {episodes:,} episodes, {times:,} times"
             for name, (had, times) in found.events.items()]
    lines += [f"player          {name}: {count:,} episodes, {count / episodes:.1%}{_returns(found, name)}"
              for name, count in found.players.items()]
    return [*lines, f"rewards         {_percent(found.known_rewards)} known{_returns(found, None)}"]


def _percent(share: float) -> str:
    """Rounded, but all and none only where it is so."""
    return f"{share:.1%}" if share in (0, 1) else f"{min(max(share, 0.001), 0.999):.1%}"


def _returns(found: Card, whose: str | None) -> str:
    earned = found.returns.get(whose)
    if not earned:
        return ""
    spread = ", ".join(f"{value:.2f}" for value in np.quantile(earned, QUANTILES))
    return f", mean return {np.mean(earned):.2f}, quartiles {spread}"
