"""What is trained, as a folder: config.json beside model.safetensors; and which one a run folder means."""

import copy
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from wakedream.config import shown
from wakedream.device import check_visible
from wakedream.errors import CheckpointError, ConfigError, RunError
from wakedream.model.frozen import DTYPES, frozen
from wakedream.owned import inside
from wakedream.runs import BEST, CONFIG, TENSORS, atomic, located, remove, sha256, write_json

FORMAT = 1
# in no weights folder
FOREIGN = ("manifest.json", "latents.json", "state.json", "metrics.jsonl", "checkpoints", "shards")
Model = TypeVar("Model", bound=nn.Module)


class Pretrained(nn.Module):
    """A model that is loaded, saved, named by its content and frozen in the same way as all others.

    KIND      what it is, in config.json and in errors
    PARTS     the folders of a world or an agent that may hold it
    WITHIN    kinds of weights that it is a part of, and what its tensors' names begin with there
    OUTPUT    names of weights that stay float32 in a frozen copy
    about     what config.json says of it, beside format and kind; `build` makes the model of that, untrained
    """

    KIND: ClassVar[str]
    PARTS: ClassVar[tuple[str, ...]] = ()
    WITHIN: ClassVar[dict[str, str]] = {}
    OUTPUT: ClassVar[tuple[str, ...]] = ()

    def about(self) -> dict[str, Any]:
        raise NotImplementedError

    @classmethod
    def build(cls, about: dict[str, Any]) -> Self:
        raise NotImplementedError

    @classmethod
    def from_pretrained(cls, path: str | Path) -> Self:
        """Of a run folder (its best weights, else those of its latest checkpoint), a checkpoint, a weights folder, the
        folder of a world or an agent, or a world's name in the box.

        In eval mode. CheckpointError when there is none that can be used, or of another kind.
        """
        folder = weights_folder(Path(path), cls.PARTS)
        about = read_about(folder, cls.KIND, *cls.WITHIN)
        return load_weights(cls.build(about), folder, about.get("sha256"), cls.WITHIN.get(about["kind"], ""))

    def save_pretrained(self, folder: str | Path, precision: str | None = None) -> None:
        """Write a weights folder, config.json and model.safetensors. RunError where the folder holds something else.

        precision: of the weights there, "bf16" or "float32"; None: as they are. They are read as float32 again.
        """
        folder = Path(folder)
        refuse_foreign(folder, self.KIND)
        self.save_within(folder, precision)

    def save_within(self, folder: Path, precision: str | None = None) -> None:
        """As `save_pretrained`, by who keeps the folder: whatever is there is replaced."""
        save_weights(self, folder, self.KIND, self.about(), precision)

    def rounded(self, precision: str | None) -> Self:
        """As it would be read again from a folder in this precision: a copy, or itself where that changes nothing."""
        if precision is None:
            return self
        made = copy.deepcopy(self)
        for weight in made.parameters():
            weight.data = _to(weight.data, precision).to(weight.dtype)
        return made

    @property
    def size(self) -> str:
        """Its weights, in words: "1.2 M weights (float32) on cpu"."""
        weights = list(self.parameters())
        count = sum(weight.numel() for weight in weights)
        return f"{in_words(count)} weights ({str(weights[0].dtype).removeprefix('torch.')}) on {weights[0].device}"

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """As any module's; ConfigError, in words, for a GPU that there is not."""
        for given in (*args, *kwargs.values()):
            if isinstance(given, (str, torch.device)):
                check_visible(torch.device(given))
        return super().to(*args, **kwargs)

    def cuda(self, device: int | torch.device | None = None) -> Self:
        """As any module's; ConfigError, in words, for a GPU that there is not."""
        check_visible(torch.device("cuda", device) if isinstance(device, int) else torch.device(device or "cuda"))
        return super().cuda(device)

    def fingerprint(self) -> str:
        """sha256 over config and tensors: the same for the same model on any device, saved or not.

        Of the config what `config.shown` shows, so that a field that comes later changes nothing.
        """
        digest = hashlib.sha256(json.dumps(shown(self.config), sort_keys=True).encode())  # type: ignore[arg-type]
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(f" {name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        return digest.hexdigest()

    def frozen(self, precision: str | None = None) -> Self:
        """For inference alone: "float32", "bf16" but for the output, "fp8"; None: as it is. See model/frozen.py."""
        return frozen(self, precision, self.OUTPUT)


def in_words(count: int) -> str:
    """1.2 M; below a million 345 thousand, below a thousand as it is."""
    if count >= 999_500:
        return f"{count / 1e6:.1f} M"
    return f"{count / 1e3:.3g} thousand" if count >= 1000 else str(count)


def refuse_foreign(folder: Path, kind: str) -> None:
    """RunError unless `folder` is free, or holds weights of this kind, which are then replaced; and where it is kept
    by a data set, a run or a world that it lies in."""
    if keeper := inside(folder):
        raise RunError(f"{folder} is kept by the {keeper[0]} {keeper[1]}, which other weights there would spoil: "
                       "choose a folder of their own")
    if not folder.exists():
        return
    if not folder.is_dir():
        raise RunError(f"{folder} is a file: give a folder for the weights")
    found = next((name for name in FOREIGN if (folder / name).exists()), None)
    config = folder / CONFIG
    if found is None and config.exists():
        found = None if _kind(config) == kind else CONFIG
    if found is not None:
        raise RunError(f"{folder} holds something else ({found}), which weights of a {kind} would spoil: choose a "
                       "folder of their own")


def _kind(config: Path) -> Any:
    try:
        values = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return values.get("kind") if isinstance(values, dict) else None


def save_weights(model: nn.Module, folder: Path, kind: str, about: dict[str, Any],
                 precision: str | None = None) -> None:
    """The weights first, then the config, `about` of this kind and their checksum: a folder with a config is
    complete. Buffers stay what they are."""
    buffers = {name for name, _ in model.named_buffers()}
    folder.mkdir(parents=True, exist_ok=True)
    remove(folder / CONFIG)
    with atomic(folder / TENSORS) as beside:
        save_file({name: (tensor if name in buffers else _to(tensor, precision)).detach().cpu().contiguous()
                   for name, tensor in model.state_dict().items()}, beside)
    write_json(folder / CONFIG, {"format": FORMAT, "kind": kind, **about, "sha256": sha256(folder / TENSORS)})


def _to(tensor: torch.Tensor, precision: str | None) -> torch.Tensor:
    if precision not in (None, *DTYPES):
        raise ConfigError(f"precision is {precision!r}: expected one of {', '.join(DTYPES)}, or None")
    return tensor if precision is None else tensor.to(DTYPES[precision])


def load_weights(model: Model, folder: Path, checksum: str | None = None, prefix: str = "") -> Model:
    """The model with the folder's weights, in eval mode. CheckpointError when they are damaged or do not fit.

    checksum: what the file should have; folders of before it was kept have none. prefix: of the names of those that
    are the model's, where it is a part of what the folder holds.
    """
    file = folder / TENSORS
    try:
        if checksum is not None and sha256(file) != checksum:
            raise CheckpointError(f"the weights {file} are damaged, they are not what was written (checksum): take "
                                  "another checkpoint of the run, or train again")
        state = {name.removeprefix(prefix): tensor for name, tensor in load_file(file).items()
                 if name.startswith(prefix)}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"the weights {file} are damaged or missing ({error}): "
                              "take another checkpoint of the run, or train again") from error
    own = model.state_dict()
    wrong = sorted(name for name in own.keys() | state.keys()
                   if name not in own or name not in state or own[name].shape != state[name].shape)
    if wrong:
        raise CheckpointError(f"the weights {file} do not fit their config.json, first at '{wrong[0]}' "
                              f"({len(wrong)} tensors): the two files are not from one save")
    model.load_state_dict(state)
    return model.eval()


def read_about(folder: Path, *kinds: str) -> dict[str, Any]:
    """What `save_weights` was told; CheckpointError when the folder holds another kind of model."""
    file = folder / CONFIG
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} is missing or damaged ({error}): take another checkpoint") from error
    if values.get("kind") not in kinds:
        raise CheckpointError(f"{file} describes '{values.get('kind')}', expected a {kinds[0]}")
    if values.get("format", 0) > FORMAT:
        raise CheckpointError(
            f"{file} has format {values['format']}, this version reads up to {FORMAT}: upgrade wakedream")
    return values


def weights_folder(path: Path, parts: Sequence[str] = ()) -> Path:
    """The weights folder that a run folder, a checkpoint folder or a weights folder means; or one of the `parts` of
    a world, which may be named as one in the box."""
    path = located(path)
    if (path / TENSORS).exists():
        return path
    if (path / "model" / CONFIG).exists():
        return path / "model"
    if (path / BEST / CONFIG).exists():
        return path / BEST
    latest = path / "checkpoints" / "latest"
    if latest.exists():
        return path / "checkpoints" / latest.read_text(encoding="utf-8").strip() / "model"
    for part in parts:
        if (path / part / TENSORS).exists():
            return path / part
    what = "a run without a checkpoint yet" if (path / CONFIG).exists() else "neither a run nor a weights folder"
    raise CheckpointError(f"{path} is {what}: give a run folder with a checkpoint, or a folder with model.safetensors")
