"""Whether a model is better than what can be said without one; if not, that it is not, and what to try."""

from collections.abc import Mapping, Sequence
from typing import Any

DREAMED = 4  # frames after the context, where dreams are judged: later ones may go elsewhere and still be good
LEAST = 1.0  # dB that a reconstruction of what moves must be above the mean image: less is a veil over it
READ = 0.9  # R2 from which a number counts as read
MOVING, WHOLE = "psnr_moving", "psnr"
MEAN, LAST = "the mean image of the training data", "the last frame that they were shown, repeated,"
Numbers = Mapping[str, Any]


def reconstruction_verdict(own: Numbers, mean_image: Numbers) -> str:
    """"" where the tokenizer draws what the mean image lacks, else what to say."""
    short = _short(own, {MEAN: mean_image}, LEAST)
    return short and (
        f"this tokenizer does not draw what matters: {short}. Dreams of it would lack the same. Train longer "
        "(--train.minutes), with a lower rate (--optim.lr 0.005 --optim.muon-on linear), without masking "
        "(--objective.mask-ratio 0), with more weight on what moves (--objective.moving-weight 20), with more latents "
        "(--model.num-latents), or, where the training data are drawn well, with shifted clips (--objective.shift 4) "
        "or more data")


def dream_verdict(own: Numbers, last_frame: Numbers, mean_image: Numbers, actions: bool = True) -> str:
    """The same of dreams, `DREAMED` frames after their context. actions: whether the model has any."""
    look = " and whether the actions are those that led to the frames (wakedream inspect)" if actions else ""
    short = _short(own, {LAST: last_frame, MEAN: mean_image}, 0.0)
    return short and (
        f"these dreams are no nearer to what really came than a picture that stands still: {short}. Train longer "
        "(--train.minutes); see whether the tokenizer draws what moves (wakedream evaluate, of the tokenizer's run)"
        f"{look}")


def probe_verdict(unread: Sequence[str]) -> str:
    """Of the numbers that a line reads from the pixels and not from the latents; "" where there are none."""
    return "" if not unread else (
        f"the latents hold too little of what the picture shows: {', '.join(unread)} can be read from the pixels and "
        f"not from them (R2 below {READ}), so an agent will hardly know. Train longer (--train.minutes), with more "
        "latents (--model.num-latents) or with smaller patches (--model.patch-size)")


def _short(own: Numbers, baselines: Mapping[str, Numbers], margin: float) -> str:
    """On what moves against the best of them; of the whole picture against the mean image, or a veil bright enough for
    what moves would pass. "" where the model is above both."""
    if MOVING in own:
        least, of = max((numbers[MOVING], of) for of, numbers in baselines.items())
        if own[MOVING] < least + margin or own[MOVING] <= least:
            return f"PSNR on what moves {own[MOVING]:.1f} dB, {of} has {least:.1f}"
    least = baselines[MEAN][WHOLE]
    return "" if own[WHOLE] > least else f"PSNR of the whole picture {own[WHOLE]:.1f} dB, {MEAN} has {least:.1f}"
