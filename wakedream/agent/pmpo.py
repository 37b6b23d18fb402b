"""Preference by sign: good actions become likelier, bad ones less, near the cloned policy (paper eq. 11)."""

from jaxtyping import Float
from torch import Tensor


def pmpo(log_prob: Float[Tensor, "b h"], advantage: Float[Tensor, "b h"], weight: Float[Tensor, "b h"],
         alpha: float) -> Tensor:
    """(1 - alpha) mean over {A < 0} of ln pi(a|s) - alpha mean over {A >= 0} of ln pi(a|s).

    Means are weighted by `weight`, how likely the frame is reached; an empty set drops its term. Only the sign of the
    advantage counts: it is neither scaled nor centred.
    """
    good = (advantage >= 0).to(log_prob.dtype) * weight
    bad = (advantage < 0).to(log_prob.dtype) * weight
    return (1 - alpha) * weighted_mean(log_prob, bad) - alpha * weighted_mean(log_prob, good)


def weighted_mean(values: Tensor, weight: Tensor) -> Tensor:
    """0 where no weight is left. Never waits for the device."""
    return (values * weight).sum() / weight.sum().clamp_min(1e-6)
