"""What is still to come: lambda-returns (paper eq. 10)."""

import torch
from jaxtyping import Float
from torch import Tensor


def lambda_returns(rewards: Float[Tensor, "b h"], goes_on: Float[Tensor, "b h"], values: Float[Tensor, "b h1"],
                   gamma: float, lam: float) -> Float[Tensor, "b h"]:
    """R_t = r_{t+1} + gamma c_{t+1} [(1 - lam) v_{t+1} + lam R_{t+1}], R_H = v_H, for t = 0 ... H-1.

    rewards[:, t], goes_on[:, t]   r_{t+1}, c_{t+1}: they arrived with the frame that the action at t led into
    values                         v_0 ... v_H, one more

    One step of reward 1 that ends the episode: R_0 = 1, whatever v says. None, H = 1: R_0 = gamma v_1.
    """
    assert values.shape[1] == rewards.shape[1] + 1, (values.shape, rewards.shape)
    following, found = values[:, -1], []
    for t in reversed(range(rewards.shape[1])):
        following = rewards[:, t] + gamma * goes_on[:, t] * ((1 - lam) * values[:, t + 1] + lam * following)
        found.append(following)
    return torch.stack(found[::-1], dim=1)


def reached(goes_on: Float[Tensor, "b h"]) -> Float[Tensor, "b h1"]:
    """How likely frame t = 0 ... H is reached: the product of c_1 ... c_t. At frame 0 it is 1."""
    return torch.cat([torch.ones_like(goes_on[:, :1]), goes_on.cumprod(1)], dim=1)


def average_parts(rewards: Float[Tensor, "b h"], goes_on: Float[Tensor, "b h"], gamma: float) -> Float[Tensor, "2"]:
    """Means over the rollouts of S = sum_t gamma^t c_1 ... c_t r_{t+1} and of D = gamma^H c_1 ... c_H."""
    steps = torch.arange(rewards.shape[1] + 1, device=rewards.device)
    discount = gamma**steps * reached(goes_on)
    return torch.stack([(rewards * discount[:, :-1]).sum(1).mean(), discount[:, -1].mean()])


def average_value(parts: Float[Tensor, "2"]) -> Float[Tensor, ""]:
    """S / (1 - D): what a frame is worth if all that follows a rollout is as the average rollout.

    Reward 1 a frame without an end: 1 / (1 - gamma).
    """
    return parts[0] / (1 - parts[1]).clamp_min(1e-3)
