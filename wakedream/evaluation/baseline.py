"""Whether a model is better than what can be said without one; if not, that it is not, and what to try."""

from collections.abc import Mapping

LEAST = 1.0  # dB that a reconstruction must be above the mean image: less is a veil over it
MOVING, WHOLE = "psnr_moving", "psnr"
Numbers = Mapping[str, float | int | None]


def reconstruction_verdict(own: Numbers, mean_image: Numbers) -> str:
    """"" where the tokenizer draws what the mean image lacks, by PSNR on what moves, else of the whole picture."""
    name, value, least = _compared(own, mean_image)
    if value >= least + LEAST:
        return ""
    return (f"this tokenizer does not draw what matters: PSNR {_on(name)} {value:.1f} dB, where the mean image of the "
            f"training data has {least:.1f}. Dreams of it would lack the same. Train longer (--train.minutes), with a "
            "lower rate (--optim.lr 0.005 --optim.muon-on linear), without masking (--objective.mask-ratio 0), with "
            "more weight on what moves (--objective.moving-weight 20), or with more latents (--model.num-latents)")


def dream_verdict(own: Numbers, last_frame: Numbers) -> str:
    """"" where dreams are nearer to what came than the last frame that they were shown, repeated."""
    name, value, least = _compared(own, last_frame)
    if value > least:
        return ""
    return (f"these dreams are no nearer to what really came than a picture that stands still: PSNR {_on(name)} "
            f"{value:.1f} dB, the last frame of the context repeated has {least:.1f}. Train longer (--train.minutes); "
            "see whether the tokenizer draws what moves (wakedream evaluate, of the tokenizer's run) and whether the "
            "actions are those that led to the frames (wakedream inspect)")


def _compared(own: Numbers, baseline: Numbers) -> tuple[str, float, float]:
    name = MOVING if own.get(MOVING) is not None and baseline.get(MOVING) is not None else WHOLE
    return name, float(own[name] or 0), float(baseline[name] or 0)


def _on(name: str) -> str:
    return "on what moves" if name == MOVING else "of the whole picture"
