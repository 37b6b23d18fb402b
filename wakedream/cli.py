"""The command line. Imports torch only once the arguments are right: `--help` and errors are instant."""

import contextlib
import dataclasses
import io
import os
import re
import select
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from inspect import cleandoc
from itertools import takewhile
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Literal, get_origin, get_type_hints

from wakedream import __version__, runs
from wakedream.config import find, suggest
from wakedream.errors import CheckpointError, ConfigError, Interrupted, UserError


@dataclass(frozen=True)
class Verb:
    """What `wakedream NAME` does: `run` is called with the `config` that the arguments make."""

    help: str
    run: str  # "module:function"
    config: str  # "module:dataclass"; the module imports no torch
    positional: tuple[str, ...] = ()  # fields given without a flag
    usage: str = ""
    resolver: str = ""  # "module:function", the arguments to the dataclass in place of `config`, where they decide it


@dataclass(frozen=True)
class Stage:
    """What `wakedream train NAME PRESET` does."""

    help: str
    run: str  # "module:function", called with (config, data, out, preset)
    preset: str  # "module:function", a preset's name to its config
    presets: str  # "module:dict", all presets by name; the first lines of their docstrings are shown
    auto: str = ""  # "module:function", the arguments to the config of the preset `auto`, if there is one


VERBS = {
    "record": Verb("play a Gymnasium environment, keep the episodes",
                   "wakedream.world.recording:record", "wakedream.environments.config:RecordConfig", ("env",),
                   "ENV --out DATA --frames N"),
    "ingest": Verb("video files or folders, or lerobot:, minari:, vpt:, hdf5:, npz: data, to a data set",
                   "wakedream.data.readers.ingest:ingest", "wakedream.data.config:IngestConfig", ("videos",),
                   "VIDEO...|KIND:PATH --out DATA --size 64"),
    "inspect": Verb("what a data set, run, checkpoint or folder of latents is; --repair",
                    "wakedream.cli:inspect", "wakedream.data.config:InspectConfig", ("path",), "PATH"),
    "evaluate": Verb("metrics as JSON and a page with pictures and videos",
                     "wakedream.evaluation.evaluate:evaluate", "wakedream.evaluation.config:EvaluateConfig",
                     ("run",), "RUN --data DATA [--out DIR]", "wakedream.evaluation.kinds:config_type"),
    "reconstruct": Verb("truth beside reconstruction, as a video",
                        "wakedream.evaluation.tokenizer.comparison:reconstruct",
                        "wakedream.evaluation.config:ReconstructConfig", ("run", "source"),
                        "RUN VIDEO|DATA --out X.mp4"),
    "dream": Verb("truth beside dream, or dreams from nothing, as a video",
                  "wakedream.evaluation.dynamics.video:dream", "wakedream.evaluation.config:DreamConfig", ("run",),
                  "RUN --out X.mp4 [--data DATA]"),
    "play": Verb("a page in which the dream is played in real time",
                 "wakedream.play.server:play", "wakedream.play.config:PlayConfig", ("run",), "RUN [--data DATA]"),
    "export": Verb("a world or an agent as one small folder, to be given on",
                   "wakedream.play.export:export", "wakedream.play.export_config:ExportConfig", ("run",),
                   "RUN --out FOLDER [--data DATA]"),
    "weights": Verb("fetch or convert pretrained feature networks, checksums verified",
                    "wakedream.perceptual.cache:weights",
                    "wakedream.perceptual.config:WeightsConfig", ("name",), "[lpips]"),
    "bench": Verb("speed, beside this machine's limits",
                  "wakedream.bench.bench:bench", "wakedream.bench.config:BenchConfig", ("names",),
                  "[NAME ...] [--baseline] [--out FILE.json]"),
}
STAGES = {
    "tokenizer": Stage("frames to latents and back", "wakedream.stages.tokenizer:train_tokenizer",
                       "wakedream.presets.tokenizer:tokenizer_preset", "wakedream.presets.tokenizer:PRESETS",
                       "wakedream.presets.auto:tokenizer_auto"),
    "dynamics": Stage("past latents and actions to the next", "wakedream.stages.dynamics:train_dynamics",
                      "wakedream.presets.dynamics:dynamics_preset", "wakedream.presets.dynamics:PRESETS",
                      "wakedream.presets.auto:dynamics_auto"),
    "agent": Stage("cloned play, rewards and ends beside the world", "wakedream.stages.agent:train_agent",
                   "wakedream.presets.agent:agent_preset", "wakedream.presets.agent:AGENTS"),
    "imagination": Stage("practice inside the dream", "wakedream.stages.imagination:train_imagination",
                         "wakedream.presets.agent:imagination_preset", "wakedream.presets.agent:IMAGINATIONS"),
}
MADE_FROM = ("tokenizer", "world", "agent")  # options of stages: the run before
AUTO = "auto"  # the preset that is derived from the data set
LATENTS = "latents.json"  # as dynamics/latents.py, which imports torch, has it
TRAIN_HELP = "train a stage; the same command resumes"
TRAIN_USAGE = "STAGE PRESET --data DATA --out RUN [--a.b value ...]"


def main(arguments: list[str] | None = None) -> int:
    """Exit codes: 0 done, 2 the user can mend it, 128 + signal stopped; a bug keeps its traceback (1)."""
    _printable()
    try:
        with _sigterm_interrupts(), _flushed():
            return _dispatch(sys.argv[1:] if arguments is None else arguments)
    except BrokenPipeError:
        if not _reader_gone():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except UserError as error:
        if not _told(error):
            print(f"error: {error}", file=sys.stderr)
        return 2
    except PermissionError as error:
        print(f"error: {error.filename} may not be read or written ({error.strerror}): give yourself the permission, "
              "or another path", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        if not _told(stop):
            print(f"\n{str(stop) or 'interrupted'}", file=sys.stderr)
        return 128 + int(getattr(stop, "signal", signal.SIGINT))


def _told(error: BaseException) -> bool:
    """Whether another process says it. Before the processes of a run have met, one of each host speaks."""
    told = getattr(error, "told", None)
    return os.environ.get("LOCAL_RANK", "0") != "0" if told is None else told


def _dispatch(arguments: list[str]) -> int:
    name, rest = (arguments[0], arguments[1:]) if arguments else ("--help", [])
    if name in ("-h", "--help", "help"):
        print(_help())
    elif name in ("-V", "--version"):
        print(f"wakedream {__version__}")
    elif name == "train":
        _train(rest)
    elif name in VERBS:
        verb = VERBS[name]
        config_type = find(verb.resolver)(rest) if verb.resolver else find(verb.config)
        about = cleandoc(config_type.__doc__ or "") if verb.resolver else verb.help
        config = _parse(_positional(config_type, verb.positional), rest, f"wakedream {name}", about)
        check_paths(config)
        find(verb.run)(config)  # imports torch, so only now
    else:
        raise suggest("command", name, [*VERBS, "train"])
    return 0


def _train(arguments: list[str]) -> None:
    """Stage and preset are resolved first: they decide which options there are."""
    words = list(takewhile(lambda word: not word.startswith("-"), arguments))
    if not words:
        stages = {name: stage.help for name, stage in STAGES.items()}
        return _ask_for("a stage", "wakedream train STAGE PRESET", stages, arguments)
    if words[0] not in STAGES:
        raise suggest("stage", words[0], STAGES)
    stage = STAGES[words[0]]
    table = ({AUTO: find(stage.auto)} if stage.auto else {}) | find(stage.presets)
    if len(words) == 1:
        presets = {name: first_sentence(preset.__doc__ or "") for name, preset in table.items()}
        return _ask_for("a preset", f"wakedream train {words[0]} PRESET", presets, arguments)
    name = words[1]
    if name not in table:
        raise suggest(f"{words[0]} preset", name, table)
    preset = find(stage.auto)(arguments[2:]) if name == AUTO else find(stage.preset)(name)
    command_type = _train_command(preset)
    command = _parse(command_type, arguments[2:], f"wakedream train {words[0]} {name}",
                     f"Train the preset '{name}'. The same command goes on where it was stopped.")
    check_paths(command)
    if name == AUTO:
        print(find("wakedream.presets.auto:described")(command.run), file=sys.stderr)
    find(stage.run)(command.run, command.data, command.out, name)


def _ask_for(what: str, usage: str, choices: dict[str, str], arguments: list[str]) -> None:
    if not {"-h", "--help"} & set(arguments):
        known = ", ".join(sorted(choices))
        raise ConfigError(f"expected {what}: {usage} --data DATA --out RUN. Known: {known}")
    print(f"usage: {usage} --data DATA --out RUN [--option value ...]\n\n{_table(choices)}\n\n"
          f"`{usage} --help` lists the options.")


def first_sentence(text: str) -> str:
    """On one line; a sentence ends with a full stop before a capital letter, a digit or the end."""
    return re.split(r"(?<=\.) (?=[A-Z0-9])", " ".join(text.split()))[0]


def _train_command(preset: Any) -> type:
    """--data, --out, and the preset's fields under their own names: --optim.lr."""
    import tyro

    run = Annotated[type(preset), tyro.conf.arg(name="")]
    return dataclasses.make_dataclass("TrainCommand", [
        ("data", Annotated[Path, tyro.conf.arg(help="the data set")]),
        ("out", Annotated[Path, tyro.conf.arg(help="the run's folder")]),
        ("run", run, dataclasses.field(default=preset)),
    ], frozen=True)


def check_paths(command: Any) -> None:
    """What is wrong with them at first sight, before seconds go by until torch is there; a UserError says what."""
    data, out = getattr(command, "data", None), getattr(command, "out", None)
    run = getattr(command, "run", None)
    for weights in [run] if isinstance(run, Path) else [Path(getattr(run, name, "")) for name in MADE_FROM]:
        runs.located(weights)  # "": the working folder, is there
    if data is not None:
        find("wakedream.data.manifest:check_there")(Path(data))
    if out is not None:
        runs.check_place(Path(out))


def _positional(config: type, names: tuple[str, ...]) -> type:
    """The config with some fields given without a flag; its instances are instances of the config."""
    import tyro

    hints, fields = get_type_hints(config), {field.name: field for field in dataclasses.fields(config)}
    again = []
    for name in names:
        metavar = {Literal: None, tuple: f"{name.upper()} ..."}.get(get_origin(hints[name]), name.upper())
        hint = Annotated[tyro.conf.Positional[hints[name]], tyro.conf.arg(metavar=metavar)]  # type: ignore[misc]
        again.append((name, hint, dataclasses.field(default=fields[name].default)))
    return dataclasses.make_dataclass(config.__name__, again, bases=(config,), frozen=True)


def _parse(config: type, arguments: list[str], name: str, description: str) -> Any:
    import tyro

    return tyro.cli(config, args=arguments, prog=name, description=description)


def inspect(config: Any) -> None:
    """A run, a checkpoint, weights or a world are described and verified here; what holds no latents is taken for a
    data set."""
    from wakedream.training.summary import describe, verify

    path = Path(config.path)
    description = describe(path)
    if description is not None:
        print(description, flush=True)
        lines, damaged = verify(path)
        print("\n".join(lines))
        if damaged:
            raise CheckpointError("; ".join(damaged))
    elif (path / LATENTS).exists():
        find("wakedream.dynamics.inspect:inspect_latents")(config)
    else:
        find("wakedream.data.inspect:inspect_data")(config)


def _help() -> str:
    lines = [(f"{name} {verb.usage}", verb.help) for name, verb in VERBS.items()]
    lines.insert(list(VERBS).index("inspect") + 1, (f"train {TRAIN_USAGE}", TRAIN_HELP))
    return (f"usage: wakedream COMMAND ...\n\n{_table(dict(lines))}\n\n"
            "`wakedream COMMAND --help` lists the options of a command.")


def _table(rows: dict[str, str]) -> str:
    width = max(map(len, rows))
    return "\n".join(f"  {name:<{width}}  {text}".rstrip() for name, text in rows.items())


def _printable() -> None:
    """Letters that the terminal's encoding lacks are written as numbers: no work is lost for the line that tells of
    it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def _flushed() -> Iterator[None]:
    """All that was printed is out in the end, or the error is known while there is someone to catch it."""
    try:
        yield
    finally:
        sys.stdout.flush()


def _reader_gone() -> bool:
    """Whether it is our own output that nobody reads any more, as when `head` has enough."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


@contextlib.contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """SIGTERM ends a command as Ctrl-C does; commands that save on a signal handle it themselves."""
    def stop(number: int, frame: FrameType | None) -> None:
        raise Interrupted(number, "stopped")

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
