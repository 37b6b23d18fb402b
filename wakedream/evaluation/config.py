"""Options of `wakedream evaluate`, `wakedream reconstruct` and `wakedream dream`. Imports no torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from wakedream.config import check, check_seed

CHUNK = 16  # frames in which Fréchet distances are measured
EDGE = 100  # frames at either end of a long dream
TOKENIZER, DYNAMICS, AGENT = "tokenizer", "dynamics model", "agent"  # as models call themselves


@dataclass(frozen=True)
class EvaluateConfig:
    """Measure a trained model on held-out episodes: metrics.json and a page with videos.

    RUN says what it is, a tokenizer or a dynamics model, and each has further options of its own:
    `wakedream evaluate RUN --help`.
    """

    run: Path
    """A run folder, its best weights or a checkpoint in it, or a weights folder."""
    data: Path
    """The data set; its held-out episodes are used."""
    out: Path | None = None
    """Where to write (default: RUN/evaluation; of best weights or a checkpoint of a run, a folder in it; of what comes
    with wakedream, NAME-evaluation)."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N"""
    clips: int | None = None
    """How many clips, spread evenly over the held-out episodes."""
    length: int | None = None
    """Frames per clip."""
    videos: bool = True
    """Put short videos on the page."""
    lpips: bool = True
    """Measure LPIPS and what else needs its network; needs `wakedream weights lpips`."""
    lpips_net: Literal["alex", "vgg"] = "alex"
    """The network these are measured with."""
    seed: int = 0
    """Which clips, which masks, which noise."""

    def __post_init__(self) -> None:
        _at_least(1, self, "clips", "length")
        check_seed(self.seed, "--seed")


@dataclass(frozen=True)
class EvaluateTokenizerConfig(EvaluateConfig):
    """Measure a tokenizer on held-out episodes: metrics.json and a page with videos."""

    clips: int | None = None
    """How many clips, spread evenly over the held-out episodes (default: 32)."""
    length: int | None = None
    """Frames per clip (default: twice the training clip where most episodes are that long, else once)."""
    probe: int | None = None
    """Frames from which it is learned and judged what can be read from latents, where the data set has extras; 0: none
    (default: 20000, on a CPU 6000)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _at_least(0, self, "probe")


@dataclass(frozen=True)
class EvaluateDynamicsConfig(EvaluateConfig):
    """Measure a dynamics model's dreams on held-out episodes: metrics.json and a page with videos."""

    clips: int | None = None
    """How many clips, spread evenly over the held-out episodes (default: 64, on a CPU 16)."""
    length: int | None = None
    """Frames per clip (default: the context and 64 more)."""
    context: int = 16
    """Frames that a dream is shown."""
    sampling_steps: int = 4
    """Sampling steps K for each dreamed frame."""
    compare: tuple[int, ...] | None = None
    """The K that are compared (default: 1 2 4 8 and the finest; on a CPU only up to 16)."""
    chunks: int | None = None
    """Chunks of 16 frames for each Fréchet distance (default: 256, on a CPU 24; 100 and more mean much)."""
    drift: int | None = None
    """Frames of the long dreams, at least 216; 0: none (default: 1000, on a CPU 216)."""
    control: int | None = None
    """Moments of the real environment at which every command is tried, where the data was recorded from one that can
    branch; 0: none (default: 200, on a CPU 12)."""
    batch_size: int | None = None
    """Dreams side by side: fewer need less memory (default: 64, on a CPU 16)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _at_least(1, self, "context", "sampling_steps", "batch_size")
        _at_least(2, self, "chunks")
        _at_least(0, self, "control")
        shortest = CHUNK + 2 * EDGE
        check(self.drift is None or self.drift == 0 or self.drift >= shortest,
              f"--drift is {self.drift}, expected 0 or at least {shortest}")


@dataclass(frozen=True)
class EvaluateAgentConfig(EvaluateConfig):
    """Judge an agent in the real environment, beside the one that it was cloned as, and others: metrics.json and a page
    with videos."""

    clips: int | None = None
    """Not used."""
    length: int | None = None
    """Frames after which an episode is cut (default: where the environment ends it)."""
    env: str | None = None
    """The environment (default: the one that the data set was recorded from)."""
    episodes: int = 200
    """Episodes of each policy, the same worlds for all."""
    against: tuple[Path, ...] = ()
    """Other agents' runs, judged beside it (default: of an agent after imagination, the cloned one)."""
    prompts: tuple[str, ...] = ()
    """Tasks that the agents are told in each episode, the next one when the event of the present one has happened; the
    last stays (default: the agent's tasks in their order)."""
    policies: tuple[str, ...] = ("random",)
    """Players of the environment, judged beside it."""
    greedy: bool = True
    """Judge the agent, and the cloned one, also by its likeliest actions."""
    primary: str = "return"
    """What policies are compared by: return, length, events (how many different ones an episode has), or an event's
    name."""
    curve: int = 6
    """Of the run's earlier checkpoints judge at most so many, for the learning curve."""
    num_envs: int = 32
    """Environments side by side."""
    processes: int = 1
    """Processes that play them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _at_least(1, self, "episodes", "num_envs", "processes")
        _at_least(0, self, "curve")


EVALUATE: dict[str, type[EvaluateConfig]] = {TOKENIZER: EvaluateTokenizerConfig, DYNAMICS: EvaluateDynamicsConfig,
                                             AGENT: EvaluateAgentConfig}


@dataclass(frozen=True)
class ReconstructConfig:
    """Write a video of truth, reconstruction and error, side by side."""

    run: Path
    """A run folder or a weights folder."""
    source: Path
    """A video file, a folder of images, or a data set (its held-out episodes)."""
    out: Path
    """The video to write, for example reconstruction.mp4."""
    fit: Literal["crop", "pad", "stretch"] = "crop"
    """How a video file is brought to the tokenizer's frame size, as in `wakedream ingest`."""
    fps: float | None = None
    """Frames per second taken from a video file and written (default: the file's own; a data set or images: 10)."""
    max_frames: int | None = None
    """Stop after so many frames."""
    scale: int | None = None
    """Enlarge by this whole factor (default: to about 256 pixels in height)."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N"""

    def __post_init__(self) -> None:
        for name in ("fps", "max_frames", "scale"):
            value = getattr(self, name)
            check(value is None or value > 0, f"--{name.replace('_', '-')} is {value}, expected more than 0")


@dataclass(frozen=True)
class DreamConfig:
    """Write a video of dreams. With --data each goes on after a held-out clip: truth, dream and difference; without,
    dreams begin from nothing."""

    run: Path
    """The run folder of a dynamics model, its best weights or a checkpoint in it, or a world's folder."""
    out: Path
    """The video to write, for example dream.mp4."""
    data: Path | None = None
    """A data set; its held-out episodes are dreamed on."""
    context: int = 16
    """Frames that a dream is shown, with --data."""
    frames: int = 64
    """Frames to dream."""
    sampling_steps: int = 4
    """Sampling steps K for each frame."""
    clips: int = 3
    """Dreams, below one another."""
    actions: tuple[str, ...] = ()
    """true (those of the data), random (each kept for 8 frames), or NAME=VALUE ...: held throughout; a value is a
    choice's number or label, or numbers with commas; components not named are 0 (default: true with --data, else
    random)."""
    seed: int = 0
    """Which clips, which noise, which random actions."""
    fps: float = 10.0
    """Frames per second."""
    scale: int | None = None
    """Enlarge by this whole factor (default: to about 128 pixels in height)."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N"""

    def __post_init__(self) -> None:
        for name in ("context", "frames", "sampling_steps", "clips", "fps", "scale"):
            value = getattr(self, name)
            check(value is None or value > 0, f"--{name.replace('_', '-')} is {value}, expected more than 0")
        check_seed(self.seed, "--seed")
        check(self.out.suffix.lower() == ".mp4", f"--out {self.out}: expected a name that ends in .mp4")
        check(self.data is not None or self.actions != ("true",), "--actions true are those of the data: give --data")


def _at_least(least: int, config: object, *names: str) -> None:
    """Of the options that are given."""
    for name in names:
        value = getattr(config, name)
        check(value is None or value >= least, f"--{name.replace('_', '-')} is {value}, expected at least {least}")
