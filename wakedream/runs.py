"""Folders that a command writes: locked while in use, every file complete or absent; work that signals wait for."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError

from wakedream.config import from_dict
from wakedream.errors import CheckpointError, ConfigError, DataError, RunError, UnreadableError

T = TypeVar("T")

CONFIG, TENSORS = "config.json", "model.safetensors"  # of a weights folder
NAME = 240  # bytes of a name that leave room for what temporary files add to it: file systems take 255
RECORDS = (CONFIG, "manifest.json", "latents.json", "state.json", "metrics.jsonl")  # what a folder is known by
BOX = Path(__file__).parent / "box"  # worlds that come with the package, each in the folder of its name
BEST = "best"  # in a run folder: the weights that did best on held-out data, where the stage judges them


def located(path: Path) -> Path:
    """The folder of weights that is meant: this one, or that of a world in the box, by its name. CheckpointError where
    there is neither."""
    if path.exists():
        return path
    if len(path.parts) == 1 and (BOX / path).is_dir():
        return BOX / path
    boxed = sorted(folder.name for folder in BOX.iterdir()) if BOX.is_dir() else []
    also = f", or the name of a world that comes with wakedream: {', '.join(boxed)}" if boxed else ""
    raise CheckpointError(f"{path} does not exist: give a run folder or a weights folder{also}")


def boxed(path: Path) -> str | None:
    """The name of the world in the box that `located` means by this, or that this folder lies in; None elsewhere. What
    is made of one is kept elsewhere too: a folder of its name would go before it."""
    named = len(path.parts) == 1 and not path.exists()
    whole, box = (BOX / path if named else path).resolve(), BOX.resolve()
    return whole.relative_to(box).parts[0] if box in whole.parents and whole.exists() else None


def cache_folder() -> Path:
    """What a user's runs share: $WAKEDREAM_CACHE, or ~/.cache/wakedream."""
    return Path(os.environ.get("WAKEDREAM_CACHE") or Path.home() / ".cache" / "wakedream")


def run_of(weights: Path) -> Path:
    """The run folder whose best weights these are, or which has them in a checkpoint; all else is its own."""
    whole = weights.absolute()
    inside = whole.parent if whole.name == "model" else whole
    run = inside.parent if inside.name == BEST else whole
    run = inside.parents[1] if inside.parent.name == "checkpoints" else run
    return run if run != whole and (run / "config.json").exists() else weights


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Create `folder` and hold its lock; RunError when another process holds it. Freed when the process ends."""
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        handle = open(folder / ".lock", "a+")  # noqa: SIM115 (held until the context ends)
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            owner = handle.read().strip() or "unknown"
            raise RunError(
                f"the folder {folder} is in use by another run (process {owner}): "
                "wait for it, stop it, or choose another --out"
            ) from None
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        yield


def holder(folder: Path) -> str | None:
    """The number of another process that holds the folder's lock."""
    try:
        handle = open(folder / ".lock")  # noqa: SIM115
    except OSError:
        return None
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = handle.read().strip()
            return None if owner == str(os.getpid()) else owner or "unknown"
    return None


def check_place(path: Path) -> None:
    """RunError unless a file or a folder can be made, replaced or filled at `path`; nothing is written."""
    with disk_errors(path):
        there = path if path.is_dir() else next(above for above in path.absolute().parents if above.exists())
        if not there.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "not a folder", str(there))
        if not os.access(there, os.W_OK):
            raise PermissionError(errno.EACCES, "not writable", str(there))


def check_file(path: Path, read: Iterable[Path] = (), option: str = "--out") -> None:
    """Before long work: ConfigError where `path` is a folder, one of what is `read` or a part of a data set, a run or
    weights, RunError where no file can be made."""
    if path.is_dir():
        raise ConfigError(f"{option} {path} is a folder: give the name of a file")
    if path.exists() and (path.name in RECORDS or path.suffix == ".safetensors"):
        raise ConfigError(f"{option} {path} is there, and of what a data set, a run or weights consist: choose another "
                          "name")
    check_apart(path, read, option)
    check_place(path)


def check_apart(path: Path, read: Iterable[Path], option: str = "--out") -> None:
    """ConfigError where `path`, to be written, is one of what is `read`, under whatever name."""
    for source in read if path.exists() else ():
        if source.exists() and path.samefile(source):
            raise ConfigError(f"{option} {path} is what is read, which would be lost: choose another name")


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what the system says of a file that is there but may not be read into an UnreadableError. One that is not
    there stays a FileNotFoundError."""
    try:
        yield
    except FileNotFoundError:
        raise
    except NotADirectoryError as error:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from error
    except OSError as error:
        raise UnreadableError(f"{path} is there but cannot be read ({error.strerror or error}), so nothing is known of "
                              "what it holds: give yourself the permission, or mend the disk") from error


def check_readable(path: Path) -> None:
    """UnreadableError as `readable` says, for what would not tell: safetensors takes any file that it cannot open for
    one that is missing."""
    with readable(path), open(path, "rb") as file:
        file.read(1)


_UMASK = threading.Lock()
REFUSED = (errno.EFBIG, errno.EIO, errno.ENXIO, errno.ENODEV, errno.ESTALE, errno.ENAMETOOLONG)


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full disk, a missing permission or a file in the way into a RunError that names the path."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        number = _number(error)
        if number in (errno.ENOSPC, errno.EDQUOT):
            raise RunError(
                f"no space left while writing {path}: free some space and run the same command again; "
                "what was complete has been kept"
            ) from error
        if number in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise RunError(f"no permission to write {path}: choose another folder") from error
        if number in (errno.ENOTDIR, errno.EEXIST):
            raise RunError(f"{path} cannot be made, a file is in the way: choose another folder") from error
        if number in REFUSED:
            raise RunError(f"the disk refused to write {path} ({os.strerror(number)}): choose a folder on another "
                           "disk, or mend this one; what was complete has been kept") from error
        raise


def log_lines(file: Path) -> list[dict[str, Any]]:
    """The complete lines of a run's metrics.jsonl; none without the file."""
    lines = []
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else ():
        try:
            lines.append(json.loads(line))
        except ValueError:
            break  # the process died while writing it
    return lines


def _number(error: OSError | SafetensorError) -> int | None:
    """The system's number of the error; safetensors has it in its text alone."""
    if isinstance(error, OSError):
        return error.errno
    found = re.search(r"os error (\d+)", str(error))
    return int(found[1]) if found else None


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` to write a file or folder to; moved into place only when complete."""
    beside = path.with_name(f".{_short_enough(path.name)}.partial")
    remove(beside)
    try:
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            check_place(path.parent)  # before the work whose result would have no place
            yield beside
            _flush(beside)
            if beside.is_dir():
                remove(path)
            os.replace(beside, path)
    finally:
        remove(beside)


def _short_enough(name: str) -> str:
    """Itself, or of a name as long as file systems allow (255 bytes) its end and a digest, with room for more."""
    bytes_of = os.fsencode(name)
    if len(bytes_of) <= NAME:
        return name
    return f"{hashlib.sha256(bytes_of).hexdigest()[:16]}-{bytes_of[-100:].decode(errors='ignore')}"


@contextlib.contextmanager
def deferred_signals() -> Iterator[None]:
    """Ctrl-C and SIGTERM wait until the block is done, for work that must not be broken off: an exception inside the
    recording of a CUDA graph leaves the device recording for ever. Elsewhere than in the main thread none come."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    noted: list[int] = []
    before: dict[int, Any] = {number: signal.signal(number, lambda number, frame: noted.append(number))
              for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in noted:
            signal.raise_signal(number)


def write_json(path: Path, value: Any) -> None:
    with atomic(path) as beside:
        beside.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def sha256(file: Path) -> str:
    with open(file, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def read_versioned(file: Path, cls: type[T], *, format: str, versions: Sequence[int], made_by: str, remedy: str,
                   again: str) -> T:
    """The `cls` that stands in a JSON file beside its "format" and "version".

    made_by, remedy, again   what writes such files; what mends one; what to do with a version that is not read

    DataError when it is damaged, something else, not to be read, or of another version. That it is missing is left to
    the caller.
    """
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror}): give yourself the permission, or another path"
                        ) from None
    except ValueError as error:  # no JSON, or no text
        raise DataError(f"{file} is damaged ({error}): {remedy}") from None
    if not isinstance(values, dict) or values.pop("format", None) != format:
        raise DataError(f"{file} is not of the format {format}: expected a file written by {made_by}")
    if (version := values.pop("version", None)) not in versions:
        raise DataError(f"{file} has version {version}, this wakedream reads {' and '.join(map(str, versions))}: "
                        f"install the wakedream that wrote it, or {again}")
    try:
        return from_dict(cls, values)
    except ConfigError as error:
        raise DataError(f"{file} is damaged ({error}): {remedy}") from None


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # the latter: a file in the way to it
            path.unlink()


def _flush(path: Path) -> None:
    """On the disk, and readable by whom the umask lets: safetensors' own files are their owner's alone."""
    with _UMASK:  # it cannot be read but by setting it, and another thread may be writing too
        umask = os.umask(0o077)
        os.umask(umask)
    for file in [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()):
        with contextlib.suppress(PermissionError):  # a disk that knows no permissions
            file.chmod(0o666 & ~umask)
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
