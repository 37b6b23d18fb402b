"""`--init WEIGHTS`: training that begins with given weights, and a fresh optimizer."""

from typing import Any

import torch

from wakedream.config import to_dict
from wakedream.errors import ConfigError
from wakedream.model.pretrained import Pretrained
from wakedream.training.run_config import Source, flatten


def starting_weights(kind: type[Pretrained], path: str, recorded: Source | None) -> dict[str, Source]:
    """What belongs into the run's identity; {} without `path`.

    recorded: of a run that goes on from its checkpoint and no longer needs them; from the same path they are what they
    were, although the run that they are of may have gone on, or be gone.
    """
    if not path:
        return {}
    if recorded and recorded["path"] == path:
        return {"init": recorded}
    return {"init": {"path": path, "fingerprint": kind.from_pretrained(path).fingerprint()}}


@torch.no_grad()
def begin_with(model: Any, path: str) -> Any:
    """The model gets these weights; whose they were. CheckpointError when they are another kind's, ConfigError when of
    another shape."""
    given: Any = type(model).from_pretrained(path)
    own, theirs = model.state_dict(), given.state_dict()
    wrong = sorted(name for name in own.keys() | theirs.keys()
                   if name not in own or name not in theirs or own[name].shape != theirs[name].shape)
    if wrong:
        before, now = flatten(to_dict(given.config)), flatten(to_dict(model.config))
        options = [f"--model.{name.replace('_', '-')} {before[name]} there, {now[name]} here" for name in now
                   if before[name] != now[name]]
        raise ConfigError(f"--init {path}: weights of another shape, {len(wrong)} tensors differ, first '{wrong[0]}'"
                          f"{': ' if options else ''}{'; '.join(options)}. Give weights of this shape, or the options "
                          "that they were trained with")
    model.load_state_dict(theirs)
    return given
