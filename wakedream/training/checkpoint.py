"""Checkpoints of a run: complete or absent, verified when read.

    RUN/checkpoints/step_00001000/model/             averaged weights, a weights folder
                                  state.safetensors  all tensors of the training state
                                  state.json         all plain values, checksums of the other files
    The state of sharded models is state-00001-of-00002.safetensors and so on, each written by one process; state.json
    says which rows each file has. Any number of processes can read either, each what it needs of it.
    RUN/checkpoints/latest                           the name of the newest one
    RUN/best/                                        averaged weights, those of the best check so far

Training waits for a copy in memory alone, a thread writes. As torch.distributed.checkpoint.async_save, whose format is
not this one: its metadata is pickled.
"""

import contextlib
import re
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from wakedream import runs
from wakedream.errors import CheckpointError, RunError, UserError
from wakedream.training.distributed import Place
from wakedream.training.shards import bounds, is_sharded
from wakedream.training.staging import Staging
from wakedream.training.stored import Files, Stored
from wakedream.training.sums import FORMAT, checksum_of, damage, listed, read_json
from wakedream.training.tree import all_finite, pack, unpack

ALONE = Place(torch.device("cpu"))


class Checkpoints:
    """The checkpoints of one run folder; `keep` newest stay. All processes of the run save, wait and load together.

    `with Checkpoints(...) as checkpoints:` leaves when what is being written is complete.
    """

    def __init__(self, folder: Path, keep: int, place: Place = ALONE):
        self.folder, self.keep, self.place = folder, keep, place
        self._staging, self._staging_best, self._thread = Staging(), Staging(), ThreadPoolExecutor(1, "checkpoint")
        self._writing: dict[str, Future[None]] = {}  # a checkpoint, the best weights: in the order they are given
        self._group: Any = None  # the threads' own: they meet while the processes' main threads meet elsewhere

    def save(self, step: int, state: dict[str, Any], model: nn.Module | None) -> Path:
        """Copy the state to the host and return; a thread writes it. Waits for the save before.

        model: what becomes the weights folder; not used where `place` does not write. Every process writes its rows
        of what is sharded, the first all the rest. Errors are raised by `wait`, which the next save begins with.
        """
        self.wait()
        tensors, plain = pack(state)
        rows = {name: bounds(tensor) for name, tensor in tensors.items() if is_sharded(tensor)}
        names = _names(shards_of(rows))
        split = rows if self.place.rank < len(names) else {}  # of several copies of the model the first is written
        own = self._staging.tensors(
            {name: tensor for name, tensor in tensors.items() if self.place.writes or name in split})
        if rows and self._group is None:
            self._group = self.place.group()  # collective, so not in the thread
        if self.place.writes:
            assert model is not None
            copied = self._staging.model(model)
            self._writing["checkpoint"] = self._thread.submit(self._write, step, own, plain, rows, copied)
        elif rows:
            self._writing["checkpoint"] = self._thread.submit(self._hand_over, step, own, names)
        return self.path(step)

    def keep_best(self, model: nn.Module) -> None:
        """As `save`, of the best weights alone, by the process that writes; waits for those before. A state saved later
        is written only if they were."""
        wait([writing for what, writing in self._writing.items() if what == "best weights"])
        if not self.failed:  # else the run is about to stop
            copied = self._staging_best.model(model)
            self._writing["best weights"] = self._thread.submit(self._write_best, copied)

    @property
    def failed(self) -> bool:
        """Whether a save has ended with an error, which `wait` raises. The first process knows of those of all."""
        return any(writing.done() and writing.exception() for writing in self._writing.values())

    def wait(self) -> None:
        """Until what is being written is complete. Collective: what went wrong in one process is raised in all."""
        mine: UserError | OSError | None = None
        for writing in self._writing.values():
            try:
                writing.result()
            except (UserError, OSError) as error:
                mine = mine or error
        self._writing = {}
        raise_any(mine, [said for _, said in self.place.gather({}, "" if mine is None else str(mine))])

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """After an error this process alone waits: the others may be elsewhere, or nowhere."""
        if kind is None:
            self.wait()
        for what, writing in self._writing.items():
            if (lost := writing.exception()) and self.place.writes:
                print(f"warning: writing the {what} failed ({lost})", file=sys.stderr)
        self._thread.shutdown()

    def _write(self, step: int, own: dict[str, Tensor], plain: Any, rows: dict[str, list[int]],
               model: nn.Module) -> None:
        """Write beside, flush, rename, move `latest`: a process that dies leaves the last one usable."""
        path, names = self.path(step), _names(shards_of(rows))
        with runs.atomic(path) as beside:
            beside.mkdir()
            sums: dict[str, str] = {}
            with self._together(path, sums if rows else None):
                self._check(step, own)
                model.save_within(beside / "model")  # type: ignore[operator]
                save_file(own, beside / names[0])
            self._take_over(beside, names[1:])
            parameters = sum(parameter.numel() for parameter in model.parameters())
            values = {"format": FORMAT, "step": step, "parameters": parameters, "state": plain,
                      "shards": {"files": names, "rows": rows}, "files": _sums(beside, sums)}
            runs.write_json(beside / "state.json", {"checksum": checksum_of(values), **values})
        with runs.atomic(self.folder / "latest") as beside:
            beside.write_text(path.name + "\n", encoding="utf-8")
        for old in self.all()[: -self.keep]:
            runs.remove(old)

    def _write_best(self, model: nn.Module) -> None:
        with runs.atomic(self.folder.parent / runs.BEST) as beside:
            model.save_within(beside)  # type: ignore[operator]

    def _hand_over(self, step: int, own: dict[str, Tensor], names: list[str]) -> None:
        """Write this process's rows, if it has any to write, where the first process finds them."""
        sums: dict[str, str] = {}
        with self._together(self.path(step), sums):
            self._check(step, own)
            if self.place.rank < len(names):
                name = names[self.place.rank]
                file = self._handed(name)
                with runs.atomic(file) as beside:
                    save_file(own, beside)
                sums[name] = runs.sha256(file)

    def _take_over(self, folder: Path, names: list[str]) -> None:
        """Move the other processes' files into `folder`."""
        for name in names:
            file = self._handed(name)
            if not file.exists():
                raise RunError(f"{file}, written by another process, is not here: all processes of a sharded run "
                               "must see the same run folder; choose an --out that they share")
            file.rename(folder / name)

    def _handed(self, name: str) -> Path:
        return self.folder / f".{name}.partial"

    def _check(self, step: int, own: dict[str, Tensor]) -> None:
        if not all_finite(own):
            raise RunError(f"step {step}: the weights are not finite any more, so this state is not "
                           f"saved. The checkpoints in {self.folder} stay; lower --optim.lr or use "
                           "--train.precision float32")

    @contextlib.contextmanager
    def _together(self, path: Path, sums: dict[str, str] | None) -> Iterator[None]:
        """The threads of all processes of a sharded run do their part of writing `path`, or all raise; then `sums` has
        what each put into its own. None: this one writes alone."""
        mine: UserError | OSError | None = None
        try:
            with runs.disk_errors(path):
                yield
        except (UserError, OSError) as error:
            mine = error
        if sums is None:
            raise_any(mine, [])
            return
        heard = [said for _, said in self.place.gather({}, ["" if mine is None else str(mine), sums], self._group)]
        raise_any(mine, [error for error, _ in heard])
        for _, other in heard:
            sums |= other

    def latest(self) -> Path | None:
        """The newest complete checkpoint, None before the first."""
        complete = self.all()
        marker = self.folder / "latest"
        if marker.exists():
            marked = self.folder / marker.read_text(encoding="utf-8").strip()
            if marked in complete:
                return marked
            if complete:
                print(f"{marked.name} is gone, going on from {complete[-1].name}", file=sys.stderr)
        return complete[-1] if complete else None

    def load(self, path: Path) -> dict[str, Any]:
        """The state that was saved, tensors as `Stored`; CheckpointError names the one before if it is damaged."""
        try:
            return read_state(path, self.place)
        except CheckpointError as error:
            before = [other.name for other in self.all() if other.name < path.name]
            advice = (f"delete {path} and run the same command again: it goes on from {before[-1]}" if before
                      else "there is none before it, train again into another --out")
            raise CheckpointError(f"{error}; {advice}") from error

    def path(self, step: int) -> Path:
        return self.folder / f"step_{step:08d}"

    def all(self) -> list[Path]:
        """Oldest first. A folder still being written has another name, and so has a copy that the user keeps."""
        own = (re.fullmatch(r"step_([0-9]{8,})", path.name) for path in self.folder.glob("step_*"))
        return [path for path in map(self.path, sorted(int(name[1]) for name in own if name)) if path.is_dir()]

    def clean(self) -> None:
        """Remove what a killed process left half-written."""
        for partial in (*self.folder.glob(".*.partial"), *self.folder.parent.glob(f".{runs.BEST}.partial")):
            runs.remove(partial)


def raise_any(mine: BaseException | None, said: list[str]) -> None:
    """This process's error, or a RunError that tells another's; `said`: what each process has to say of it, or ""."""
    if mine is not None:
        raise mine
    for rank, error in enumerate(said):
        if error:
            raise RunError(f"process {rank} could not save: {error}")


def read_state(path: Path, place: Place = ALONE) -> dict[str, Any]:
    values = read_json(path)
    if found := _damage(path, values["files"], place):
        raise CheckpointError(f"the checkpoint {path} is damaged: {listed(found)}")
    files, rows, opened = [path / name for name in values["shards"]["files"]], values["shards"]["rows"], Files()
    try:
        whole = opened.names(files[0])
    except SafetensorError as error:
        raise CheckpointError(f"the checkpoint {path} is damaged: {files[0].name} ({error})") from error
    return unpack({name: Stored(name, files, rows.get(name), opened) for name in whole}, values["state"])


def judged_by(checkpoints: Checkpoints) -> str | None:
    """By what a run chose its best weights whose config.json says nothing of it: "lpips" or "psnr"."""
    newest = checkpoints.latest()
    try:
        by = read_json(newest)["state"].get("best_by") if newest else None
    except (CheckpointError, RunError):
        return None  # going on from it says what is wrong
    return by.split()[0].lower() if by else None


def _damage(path: Path, files: dict[str, str], place: Place) -> dict[str, str]:
    """What is wrong with which file; the processes share the work of looking."""
    found: dict[str, str] = {}
    for _, one in place.gather({}, damage(path, files, sorted(files)[place.rank :: place.world_size])):
        found |= one
    return found


def shards_of(rows: dict[str, list[int]]) -> int:
    """Over how many processes they are split."""
    return len(next(iter(rows.values()))) - 1 if rows else 1


def _names(count: int) -> list[str]:
    if count == 1:
        return ["state.safetensors"]
    return [f"state-{index + 1:05d}-of-{count:05d}.safetensors" for index in range(count)]


def _sums(folder: Path, known: dict[str, str]) -> dict[str, str]:
    """Checksums of all files; those `known` are not computed again."""
    names = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
    return {name: known.get(name) or runs.sha256(folder / name) for name in names}
