"""Processes that play and compress episodes side by side and hand them over in the order of their numbers."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import wait

from wakedream.data.actions import ActionSpec
from wakedream.data.episode import Episode
from wakedream.data.shard import Packed, pack
from wakedream.environments.pixels import Size
from wakedream.environments.policies import MakePolicy
from wakedream.environments.processes import Life, Processes
from wakedream.environments.registry import environment
from wakedream.errors import DataError

AHEAD = 8  # episodes per process that may be played before an earlier one is done
POLL = 0.1  # seconds between looks at whether to stop


@dataclass(frozen=True)
class Play:
    """What every process plays."""

    env: str
    policy: str | None
    size: Size | None
    seed: int
    max_frames: int | None
    guests: Mapping[str, MakePolicy] = field(default_factory=dict)  # as play_episode's; they travel to the processes


@dataclass(frozen=True)
class Interface:
    """What a process found when it had made the environment."""

    spec: ActionSpec
    frame_shape: tuple[int, int, int]
    policy: str


class Workers(Processes):
    """`with Workers(play, 2) as workers: workers.interface(stopped); for episode in workers.episodes(0, stopped): ...`

    Episode i is the same whatever the number of processes. What an environment raises arrives as a DataError.
    """

    remedy = "Use fewer --processes; the same command goes on"

    def __init__(self, play: Play, processes: int):
        super().__init__(play.env, _serve, [play] * processes)

    def interface(self, stopped: Callable[[], bool]) -> Interface | None:
        """What the environment is, once all processes have made it; None when stopped before."""
        found = []
        waiting = [connection for _, connection in self.workers]
        while waiting and not stopped():
            for connection in wait(waiting, POLL):
                found.append(self.receive(connection))
                waiting.remove(connection)
        return None if waiting else found[0]

    def episodes(self, first: int, stopped: Callable[[], bool]) -> Iterator[Packed]:
        """Episodes first, first + 1, ... until `stopped()`."""
        done: dict[int, Packed] = {}
        idle, following, begun = [connection for _, connection in self.workers], first, first
        while not stopped():
            while idle and begun < following + AHEAD * len(self.workers):
                idle.pop().send(begun)
                begun += 1
            busy = [connection for _, connection in self.workers if connection not in idle]
            for connection in wait(busy, POLL):
                index, episode = self.receive(connection)
                done[index] = episode
                idle.append(connection)
            while following in done:  # all that wait: one a round would leave as many processes idle
                yield done.pop(following)
                following += 1


def _serve(play: Play, life: Life) -> None:
    """Make the environment, then play whatever episode is asked for."""
    from wakedream.environments.play import play_episode

    env = life.make(play.size)
    ahead = 2 if play.guests else 1  # a guest has to see a frame to say that it cannot play here
    first = play_episode(play.env, env, play.policy, play.seed, 0, ahead, play.guests)
    spec = ActionSpec.from_space(env.action_space)
    policy = play.policy or environment(play.env).default_policy
    life.connection.send(Interface(spec, first.video.shape[1:], policy))
    while (asked := life.next()) is not None:
        life.asked = int(asked)
        episode = play_episode(play.env, env, play.policy, play.seed, life.asked, play.max_frames, play.guests)
        _check(episode, spec, first.video.shape[1:])
        life.connection.send((asked, pack(episode)))  # here: compressing takes as long as playing a fast game


def _check(episode: Episode, spec: ActionSpec, frame_shape: tuple[int, int, int]) -> None:
    """As `Episode.check`, with the way out where there is one."""
    if episode.video.shape[1:] != frame_shape:
        raise DataError(f"frames of {episode.video.shape[1:]} (height, width, channels), {frame_shape} before: choose "
                        "a --size")
    episode.check(spec, frame_shape)
