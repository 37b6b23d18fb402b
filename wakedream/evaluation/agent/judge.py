"""A policy judged in the real environment, on the same worlds as every other. Needs no torch."""

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, UInt8

from wakedream.config import check, check_seed
from wakedream.environments.pixels import AnySize
from wakedream.environments.registry import known_policy
from wakedream.errors import DataError
from wakedream.evaluation.agent.judged import Judged, Played
from wakedream.evaluation.agent.seats import DOMAIN, Answer, Begin, Plan, Seats, Step, take_seats
from wakedream.progress import late_bar

FILM = 1000  # frames of an episode that are kept to be shown


@runtime_checkable
class Acting(Protocol):
    """n players side by side."""

    def reset(self, rows: Bool[np.ndarray, " n"]) -> None:
        """These begin an episode with the next frame. Episodes are begun in the order of their numbers, of those that
        begin together the lowest row first: who counts them knows which is whose."""

    def act(self, frames: UInt8[np.ndarray, "n h w c"]) -> list[Any]:
        """One frame per environment -> n actions of the environment's own space. Of a row that has no more episodes
        the last frame comes again, and its action is not taken."""


@runtime_checkable
class Watching(Acting, Protocol):
    """Players that are told what happens."""

    def see(self, row: int, happened: Mapping[str, bool]) -> None:
        """By name, what has happened in the row's episode by the frame that comes next."""


MakePlayer = Callable[[int], Acting]  # for n environments


def judge(
    env_name: str,
    make_player: MakePlayer | str,
    episodes: int,
    *,
    seed: int,
    size: AnySize,
    num_envs: int,
    max_episode_frames: int | None = None,
    avoid: Collection[int] = (),
    processes: int = 1,
    films: int = 0,
) -> Judged:
    """Play episodes 0 to `episodes` - 1 to their ends, however long each takes, in `num_envs` environments.

    make_player         called with the number of environments, at most `num_envs`; or a policy of the registry by its
                        name, which plays where its environment is, each episode with chances of its own
    seed                episode i is played in a world drawn from (seed, i), whatever else is chosen here
    size                of the frames in pixels, height and width, as the player takes them
    max_episode_frames  cut episodes after so many frames, the first among them. Default: where the environment ends
                        them, at the latest after 100,000
    avoid               seeds of worlds not to be played, as `branching.recorded_seeds` finds them in a data set
    processes           that share the environments; the player stays here
    films               so many of the first episodes are kept as frames, up to 1,000 of each

    ConfigError for an unknown name or a number that cannot be; DataError when the environment fails.
    """
    for name, value, least in (("episodes", episodes, 1), ("num_envs", num_envs, 1), ("processes", processes, 1),
                               ("films", films, 0), ("max_episode_frames", max_episode_frames, 2)):
        check(value is None or value >= least, f"judge: {name} is {value}, expected at least {least}")
    check_seed(seed, "judge: seed")
    policy = make_player if isinstance(make_player, str) else None
    if policy is not None:
        known_policy(policy, env_name)
    count = min(num_envs, episodes)
    with (take_seats(Plan(env_name, size, policy, seed, max_episode_frames), count, processes) as seats,
          late_bar("playing", episodes, "episodes") as advance):
        player = Seated(count) if isinstance(make_player, str) else make_player(count)
        begins = (Begin(episode, world_seed(seed, episode, avoid)) for episode in range(episodes))
        return _Match(env_name, seats, player, count, films).play(begins, advance)


class Seated:
    """Players whose policies sit beside their environments, and decide there."""

    def __init__(self, count: int):
        self.count = count

    def reset(self, rows: np.ndarray) -> None: ...

    def act(self, frames: np.ndarray) -> list[Any]:
        return [None] * self.count


def world_seed(seed: int, episode: int, avoid: Collection[int] = ()) -> int:
    """The environment's, below 2^31. If it is to be avoided, that of this episode alone is drawn again."""
    drawn = (int(np.random.SeedSequence([seed, episode, DOMAIN, attempt]).generate_state(1)[0] >> 1)
             for attempt in itertools.count())
    return next(world for world in drawn if world not in avoid)


class _Match:
    """All rows take a step together; who ends begins the next episode that nobody has begun."""

    def __init__(self, env_name: str, seats: Seats, player: Acting, count: int, films: int):
        self.env_name, self.seats, self.player, self.count = env_name, seats, player, count
        self.watching = player if isinstance(player, Watching) else None
        self.frames: np.ndarray | None = None
        self.episodes = [0] * count  # of each row
        self.films: list[list[np.ndarray]] = [[] for _ in range(films)]
        self.played: list[Played] = []

    def play(self, begins: Iterator[Begin], advance: Callable[[int], None]) -> Judged:
        playing = self._begin(range(self.count), begins)
        while playing:
            assert self.frames is not None
            actions = self.player.act(self.frames.copy())
            assert len(actions) == self.count, (len(actions), self.count)
            answers = self.seats.play({row: Step(actions[row]) for row in playing})
            self._see(answers)
            ended = [(row, played) for row, (*_, played) in answers.items() if played]
            self.played += [played for _, played in ended]
            rows = [row for row, _ in ended]
            playing = sorted({*playing} - {*rows} | {*self._begin(rows, begins)})
            advance(len(ended))
        return Judged.of(self.env_name, self.played, [np.stack(film) for film in self.films if film])

    def _begin(self, rows: Iterable[int], begins: Iterator[Begin]) -> list[int]:
        """Those of the rows that there was another episode for."""
        orders = dict(zip(rows, begins, strict=False))
        for row, begin in orders.items():
            self.episodes[row] = begin.episode
        if orders:
            self._see(self.seats.play(orders))
            self.player.reset(np.isin(np.arange(self.count), list(orders)))
        return list(orders)

    def _see(self, answers: dict[int, Answer]) -> None:
        for row, (frame, happened, _) in answers.items():
            if self.watching is not None:
                self.watching.see(row, happened)
            if self.frames is None:
                self.frames = np.zeros((self.count, *frame.shape), np.uint8)
            if frame.shape != self.frames.shape[1:]:
                raise DataError(f"{self.env_name} gives frames of {frame.shape} (height, width, channels) and of "
                                f"{self.frames.shape[1:]}: choose a size")
            self.frames[row] = frame
            if self.episodes[row] < len(self.films) and len(self.films[self.episodes[row]]) < FILM:
                self.films[self.episodes[row]].append(np.array(frame))
