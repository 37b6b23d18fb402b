"""What is played, and for whom. Imports no torch."""

from dataclasses import dataclass
from pathlib import Path

from wakedream.config import check, check_seed

LOCAL = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class PlayConfig:
    run: Path
    """A run folder: of an agent, which then plays, too, or of a dynamics model; or the folder of a world, or the name
    of one that comes with wakedream."""
    data: Path | None = None
    """A data set: dreams begin at moments of it. Default: those that the world has with it, else from nothing."""
    env: str | None = None
    """The environment that the world was trained on, to play beside the dream."""
    host: str = "127.0.0.1"
    """Where to listen. Anything but this machine's own address lets others in."""
    port: int = 8765
    fps: float = 15.0
    """Frames a second, at most."""
    sampling_steps: int = 4
    """K: passes a frame, a power of two; fewer are faster and less sharp."""
    context: int = 16
    """Frames of the data set before a dream begins."""
    visitors: int = 4
    """Dreams side by side; who comes later waits in a queue."""
    seed: int = 0
    """Which moments of the data set are offered."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N"""

    def __post_init__(self) -> None:
        for name in ("sampling_steps", "context", "visitors"):
            check(getattr(self, name) >= 1, f"--{name.replace('_', '-')} {getattr(self, name)}: expected at least 1")
        check(0 < self.fps <= 1000, f"--fps {self.fps}: expected more than 0, at most 1000")
        check(0 <= self.port <= 65535, f"--port {self.port}: expected 0 to 65535")
        check(bool(self.host), "--host: expected an address, got nothing")
        check_seed(self.seed, "--seed")
