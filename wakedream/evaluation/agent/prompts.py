"""A player led through a sequence of tasks: the next is told once the present one's event has happened."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from wakedream.agent.relevance import REWARD
from wakedream.config import check, suggest
from wakedream.evaluation.agent.judge import Acting


@runtime_checkable
class Promptable(Acting, Protocol):
    def prompt(self, task: Sequence[str]) -> None:
        """What each row is to do from its next frame on."""


class Led:
    """Each row begins its episode with the first prompt and stays at the last. What had happened before it was asked
    for counts too."""

    def __init__(self, player: Promptable, prompts: Sequence[str], rows: int):
        self.player, self.prompts, self.at = player, prompts, [0] * rows
        self.told = list[int]()  # where they were when the player was last told

    def see(self, row: int, happened: Mapping[str, bool]) -> None:
        while self.at[row] + 1 < len(self.prompts) and happened.get(self.prompts[self.at[row]], False):
            self.at[row] += 1

    def reset(self, rows: np.ndarray) -> None:
        self.at = [0 if begins else at for begins, at in zip(rows.tolist(), self.at, strict=True)]
        self.player.reset(rows)

    def act(self, frames: np.ndarray) -> list[Any]:
        if self.told != self.at:
            self.player.prompt([self.prompts[at] for at in self.at])
            self.told = list(self.at)
        return self.player.act(frames)


def sequence(tasks: Sequence[str], given: Sequence[str] = ()) -> tuple[str, ...]:
    """The prompts: as given, else the agent's tasks in their order, the reward last. ConfigError for a task that it
    does not know, for one that comes again, and for one that nothing could follow."""
    for name in given:
        if name not in tasks:
            raise suggest("task", name, tasks)
    prompts = tuple(given or sorted(tasks, key=lambda name: name == REWARD))
    check(len(set(prompts)) == len(prompts), f"--prompts {' '.join(prompts)}: expected each task once, since what has "
                                             "happened has happened")
    check(REWARD not in prompts[:-1], f"--prompts {' '.join(prompts)}: '{REWARD}' is no event after which the next "
                                      "could be told: put it last")
    return prompts
