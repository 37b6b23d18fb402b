"""A player led through tasks: the next prompt when the event has happened, each row and each episode by itself."""

import numpy as np
import pytest
from signs import Reader

from wakedream.errors import ConfigError
from wakedream.evaluation.agent.judge import judge
from wakedream.evaluation.agent.prompts import Led, sequence

PROMPTS = ("right", "late", "never")


class Noting(Reader):
    """What it was told, by episode, frame by frame."""

    def __init__(self, count):
        super().__init__(count)
        self.told = {}

    def prompt(self, task):
        self.task = task

    def act(self, frames):
        for episode, t, task in zip(self.episode.tolist(), self.t.tolist(), self.task, strict=True):
            self.told.setdefault(episode, {})[t] = task
        return super().act(frames)


@pytest.mark.parametrize(("num_envs", "processes"), [(1, 1), (4, 1), (5, 2)])
def test_the_next_prompt_comes_with_the_frame_of_the_event(num_envs, processes):
    """`right` happens at the first action, in every fifth episode never; `late` at the tenth."""
    made = []

    def led(count):
        made.append(Noting(count))
        return Led(made[0], PROMPTS, count)

    judged = judge("signs:Signs-v0", led, 15, seed=3, size=None, num_envs=num_envs, processes=processes)
    for episode, length in enumerate(judged.lengths.tolist()):
        told = [made[0].told[episode][t] for t in range(length)]
        right = 10**9 if episode % 5 == 4 else 1
        assert told == ["right" if t < right else "late" if t < 10 else "never" for t in range(length)], episode
    assert judged.lengths.max() > 11


def test_what_has_happened_before_it_was_asked_for_counts():
    player = Noting(2)
    led = Led(player, PROMPTS, 2)
    led.see(1, {"late": True})
    assert led.at == [0, 0]
    led.see(1, {"late": True, "right": True})
    assert led.at == [0, 2]
    led.see(1, dict.fromkeys(PROMPTS, True))
    assert led.at == [0, 2]  # the last stays
    led.reset(np.array([False, True]))
    assert led.at == [0, 0]


def test_a_sequence_is_of_the_agents_tasks_each_once_the_reward_last():
    tasks = ("reward", "key", "door")
    assert sequence(tasks) == ("key", "door", "reward") and sequence(("reward",)) == ("reward",)
    assert sequence(tasks, ["door"]) == ("door",)
    for given, told in ((("kye",), "unknown task 'kye'; did you mean 'key'"),
                        (("key", "door", "key"), "each task once"), (("reward", "key"), "put it last")):
        with pytest.raises(ConfigError, match=told):
            sequence(tasks, given)
