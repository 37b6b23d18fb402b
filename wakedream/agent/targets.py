"""What the heads are to say at each frame, for the frame itself and those after it: multi-token prediction."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from wakedream.data.trajectory import Actions, Trajectory
from wakedream.notation import FrameIds


@dataclass(frozen=True)
class HeadTargets:
    """At frame t and distance n (b t n ...). actions: that led into frame t + n + 1; rewards: that arrived with frame
    t + n; goes_on: 0 where the episode ended for good at frame t + n. known_*: bool (b t n), whether that is known and
    belongs to the same episode as frame t."""

    actions: Actions
    known_actions: Bool[Tensor, "b t n"]
    rewards: Float[Tensor, "b t n"]
    known_rewards: Bool[Tensor, "b t n"]
    goes_on: Float[Tensor, "b t n"]
    known_ends: Bool[Tensor, "b t n"]


def head_targets(trajectory: Trajectory, segments: FrameIds, distance: int) -> HeadTargets:
    """A clip's cut and a time limit are no end. Nothing is asked past an end, of the episode or of its task alone. Of
    frames without a known action (images) neither reward nor end is asked for: they are not known to follow from
    anything."""
    length = segments.shape[1]
    ahead = torch.arange(length, device=segments.device)[:, None] + torch.arange(distance + 2, device=segments.device)
    inside, ahead = ahead < length, ahead.clamp(max=length - 1)
    over = trajectory.terminated.cumsum(1) - trajectory.terminated.long()  # ends before the frame
    same = inside & (segments[:, ahead] == segments[:, :, None]) & (over[:, ahead] == over[:, :, None])  # (b t n+1)
    here, after = same[..., :-1], same[..., 1:]
    acted = trajectory.has_action | _begins(trajectory)
    return HeadTargets(
        {name: values[:, ahead[:, 1:]] for name, values in trajectory.actions.items()},
        after & trajectory.has_action[:, ahead[:, 1:]],
        trajectory.rewards[:, ahead[:, :-1]],
        here & trajectory.has_reward[:, ahead[:, :-1]] & trajectory.has_action[:, ahead[:, :-1]],
        (~trajectory.terminated[:, ahead[:, :-1]]).float(),
        here & acted[:, ahead[:, :-1]])


def _begins(trajectory: Trajectory) -> Bool[Tensor, "b t"]:
    """Frames that an action follows: an episode's first has none that led into it."""
    following = torch.zeros_like(trajectory.has_action)
    following[:, :-1] = trajectory.has_action[:, 1:]
    return following
