"""What to record. Imports no torch."""

from dataclasses import dataclass

from wakedream.config import check, check_seed
from wakedream.data.config import parse_size
from wakedream.environments.mixture import shares


@dataclass(frozen=True)
class RecordConfig:
    env: str
    """What to play: crafter, coinrun, doorkey, doorkey5, doom, swingup, or a Gymnasium id (CartPole-v1,
    module:Id-v0)."""
    out: str
    """The data set's folder. The same command goes on where it was stopped."""
    frames: int
    """Frames to have in all."""
    processes: int = 1
    """Processes that play side by side; the recorded episodes do not depend on it."""
    policy: str | None = None
    """random, sticky, or scripted where there is one (crafter, coinrun, doorkey, doom, swingup). Several by shares,
    drawn for each episode: scripted:0.6,random:0.4. CoinRun has `varied`, too, Crafter `specialist`, who wants one
    thing alone. A path is that of a trained agent's run, which plays on
    the CPU: scripted:0.5,runs/agent:0.5. Default: scripted, else sticky."""
    size: str | None = None
    """Pixels of a frame: 64, or height x width as in 128x96. Default: the environment's own."""
    seed: int = 0
    """Episode i is played from (seed, i)."""
    max_episode_frames: int | None = None
    """Cut episodes after so many frames. Default: 1000; for crafter drawn per episode from 100 to 1000."""
    held_out: float = 0.1
    """Share of the episodes kept for evaluation."""

    def __post_init__(self) -> None:
        check(bool(self.env), "--env: expected the name of an environment, got nothing")
        check(bool(self.out), "--out: expected a folder, got nothing")
        check(self.frames >= 1, f"--frames {self.frames}: expected at least 1")
        check(self.processes >= 1, f"--processes {self.processes}: expected at least 1")
        check_seed(self.seed, "--seed")
        enough = self.max_episode_frames is None or self.max_episode_frames >= 2
        check(enough, f"--max-episode-frames {self.max_episode_frames}: expected at least 2")
        check(0 <= self.held_out < 1, f"--held-out {self.held_out}: expected at least 0 and below 1")
        _ = self.frame_size, self.policy is None or shares(self.policy)

    @property
    def frame_size(self) -> tuple[int, int] | None:
        """Height and width; None: the environment's own."""
        return None if self.size is None else parse_size(str(self.size))
