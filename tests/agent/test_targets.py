"""Which action, reward and end each head is asked for: indices by hand."""

import torch

from wakedream.agent.targets import head_targets
from wakedream.data.trajectory import Trajectory

#            two episodes in a row: the first ends for good at its frame 3, the second is cut by the clip
SEGMENTS = torch.tensor([[0, 0, 0, 0, 1, 1, 1]])
FIRST = torch.tensor([[False, True, True, True, False, True, True]])


def trajectory(first=FIRST):
    move = torch.arange(7)[None] * 10  # move 10 t led into frame t
    ends = torch.tensor([[False, False, False, True, False, False, False]])
    return Trajectory({"move": move}, first.clone(), torch.arange(7.0)[None], first.clone(), ends,
                      torch.zeros_like(ends))


def test_the_action_taken_at_a_frame_led_into_the_next():
    found = head_targets(trajectory(), SEGMENTS, 2)
    move, known = found.actions["move"][0], found.known_actions[0]
    assert [row[mask].tolist() for row, mask in zip(move, known, strict=True)] == [
        [10, 20, 30], [20, 30], [30], [], [50, 60], [60], []]  # none at a terminal frame, none over an end


def test_reward_and_end_arrived_with_the_frame():
    found = head_targets(trajectory(), SEGMENTS, 2)
    rewards, known = found.rewards[0], found.known_rewards[0]
    assert [row[mask].tolist() for row, mask in zip(rewards, known, strict=True)] == [
        [1, 2], [1, 2, 3], [2, 3], [3], [5, 6], [5, 6], [6]]  # an episode's first frame has none
    goes_on, known = found.goes_on[0], found.known_ends[0]
    assert [row[mask].tolist() for row, mask in zip(goes_on, known, strict=True)] == [
        [1, 1, 1], [1, 1, 0], [1, 0], [0], [1, 1, 1], [1, 1], [1]]  # the clip's cut is no end


def test_images_are_asked_for_nothing():
    found = head_targets(trajectory(torch.zeros_like(FIRST)), torch.arange(7)[None], 2)
    assert not (found.known_actions.any() or found.known_rewards.any() or found.known_ends.any())
