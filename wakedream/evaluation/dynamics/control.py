"""Are actions obeyed? Dreams of one moment under every command, against what each truly led to."""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from torch import Tensor

from wakedream.errors import ConfigError, DataError
from wakedream.evaluation.dynamics.branching import Branches
from wakedream.evaluation.metrics import psnr
from wakedream.notation import Frame, Video
from wakedream.progress import ProgressBar


class Dreaming(Protocol):
    """What goes on from a context: `step` takes one action per row, by component (n ...)."""

    def step(self, actions: dict[str, Tensor], /) -> Frame: ...


# frames uint8 (n t c h w), actions by component (n t ...), has_action (n t), which of the contexts these are
DreamFactory = Callable[[Video, dict[str, Tensor], Bool[Tensor, "n t"], slice], Dreaming]


@torch.no_grad()
def control(dream_factory: DreamFactory, branches: Branches, *, batch_size: int = 64) -> dict[str, Any]:
    """Dream every context under every command and say which true outcome each dream is nearest to, as JSON values.

    Nearest by the MSE over all pixels of all held frames. A command whose outcome is that of another (see
    `Branches.groups`) is obeyed when the dream is nearest to either; a dream exactly as near to a wrong outcome as to
    the right one has not obeyed. Blocked commands, whose outcome is that of the first ("noop"), are not counted.

    obeyed      share of the unblocked commands that were obeyed; None where none is unblocked
    obeyed_blind    what dreams would get that ignore the command: each taken to be the dream of the first command
    chance      what a dream would get that shows any one of a moment's distinct outcomes, at random
    counted     unblocked commands, over all contexts;    unblocked   their share of all but noop
    by_command  name -> obeyed, counted; noop among them (there counted: does the dream stand still when told to?)
    confusion   name -> name -> how often the dream of the first was nearest to the second, blocked ones left out.
                A wrong outcome that several commands share stands under the first of them, so that under "noop"
                stands every dream in which nothing happened
    psnr        of counted dreams against the commanded outcome, dB

    `dream_factory` is called for each command and each batch_size contexts; when it seeds its noise by the context,
    the dreams of one moment differ by the command alone, and batch_size does not matter. The last batch may be smaller.
    DataError when a dream is not finite, ConfigError when its frames have another shape than the environment's.
    """
    n, k, hold = branches.outcomes.shape[:3]
    errors = np.empty((n, k, k))  # context, command given, outcome compared with
    with ProgressBar("control", n * k * hold, "frames") as bar:
        for command in range(k):
            for start in range(0, n, batch_size):
                rows = slice(start, min(start + batch_size, n))
                errors[rows, command] = _errors(dream_factory, branches, rows, command)
                bar.advance((rows.stop - rows.start) * hold)
    return _summary(branches, errors)


def _errors(dream_factory: DreamFactory, branches: Branches, rows: slice, command: int) -> np.ndarray:
    """MSE (rows k) of dreams under `command` to every command's outcome."""
    frames = _channels_first(branches.contexts[rows])
    dream = dream_factory(frames, {name: torch.from_numpy(values[rows]) for name, values in branches.actions.items()},
                          torch.from_numpy(branches.has_action[rows]), rows)  # fmt: skip
    action = {name: torch.from_numpy(np.repeat(values[command][None], len(frames), axis=0))
              for name, values in branches.held.items()}  # fmt: skip
    outcomes = _channels_first(branches.outcomes[rows])  # (n k hold c h w)
    total = torch.zeros(outcomes.shape[:2], dtype=torch.float64)
    for t in range(outcomes.shape[2]):
        made = dream.step({name: values.clone() for name, values in action.items()}).float().cpu()
        if made.shape != frames[:, 0].shape:
            raise ConfigError(f"control: the dream's frames are {tuple(made.shape)}, the environment's "
                              f"{tuple(frames[:, 0].shape)}: branch with the size that the world was trained on")
        truth = outcomes[:, :, t].float() / 255
        total += (made[:, None] - truth).square().mean((2, 3, 4)).double()
    if not total.isfinite().all():
        raise DataError("control: a dream's frames hold NaN or infinity")
    return (total / outcomes.shape[2]).numpy()


def _summary(branches: Branches, errors: np.ndarray) -> dict[str, Any]:
    groups, names = branches.groups, branches.commands
    same = np.equal(groups[:, :, None], groups[:, None, :])
    right, wrong = _apart(errors, same)
    obeyed = right < wrong.min(2)  # (n k)
    blind_right, blind_wrong = _apart(np.broadcast_to(errors[:, :1], errors.shape), same)
    own = np.broadcast_to(np.arange(len(names)), groups.shape)
    nearest = np.where(obeyed, own, np.take_along_axis(groups, wrong.argmin(2), 1))
    counted = np.asarray(branches.unblocked)
    distinct = np.equal(groups, own).sum(1, keepdims=True)
    listed = np.where(own == 0, counted.any(1, keepdims=True), counted)  # noop too
    return {
        "environment": branches.environment,
        "contexts": len(groups),
        "context": branches.contexts.shape[1],
        "hold": branches.outcomes.shape[2],
        "obeyed": _share(obeyed, counted),
        "obeyed_blind": _share(blind_right < blind_wrong.min(2), counted),
        "chance": _share(np.broadcast_to(1 / distinct, counted.shape), counted),
        "counted": int(counted.sum()),
        "unblocked": _share(counted[:, 1:], np.ones_like(counted[:, 1:])),
        "by_command": {name: {"obeyed": _share(obeyed[:, i], listed[:, i]), "counted": int(listed[:, i].sum())}
                       for i, name in enumerate(names)},
        "confusion": {name: {other: int((nearest[listed[:, i], i] == j).sum()) for j, other in enumerate(names)}
                      for i, name in enumerate(names)},
        "psnr": psnr(float(right[counted].mean())) if counted.any() else None,
    }  # fmt: skip


def _apart(errors: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The least of the errors to right outcomes (n k), and those to wrong ones (n k k), infinite for right ones."""
    return np.where(same, errors, np.inf).min(2), np.where(same, np.inf, errors)


def _share(values: np.ndarray, where: np.ndarray) -> float | None:
    return float(values[where].mean()) if where.any() else None


def _channels_first(frames: UInt8[np.ndarray, "..."]) -> UInt8[Tensor, "..."]:
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(frames, -1, -3)))
