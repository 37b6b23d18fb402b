"""`wakedream evaluate`: a run on held-out episodes, as numbers and as a page, whatever it trained."""

import json
import platform
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch

from wakedream import __version__, runs
from wakedream.data.store import Store
from wakedream.device import pick_device
from wakedream.dynamics.dynamics import Dynamics
from wakedream.errors import CheckpointError, ConfigError
from wakedream.evaluation.config import DYNAMICS_ONLY, EvaluateConfig
from wakedream.evaluation.page.report import foot, training, write_report
from wakedream.model.pretrained import weights_folder
from wakedream.perceptual.lpips import LPIPS
from wakedream.tokenizer.tokenizer import Tokenizer
from wakedream.world.model import DYNAMICS as IN_WORLD

DYNAMICS, TOKENIZER = Dynamics.KIND, Tokenizer.KIND


@runtime_checkable
class Evaluation(Protocol):
    """Loading and checking is done by its making, before anything is written."""

    title: str

    def measure(self) -> dict[str, Any]:
        """All numbers, as JSON values."""

    def sections(self, results: dict[str, Any], out: Path) -> list[str]:
        """Of the page, from the numbers and from pictures; other files go to `out`."""

    def lines(self, results: dict[str, Any]) -> list[str]:
        """The headline, as text."""


def evaluate(config: EvaluateConfig) -> None:
    """Measure, write metrics.json and index.html to `config.out`, print the headline.

    CheckpointError without usable weights, DataError for frames of another size, other actions, or no held-out
    episodes that are long enough, WeightsError without LPIPS weights: all before anything is written.
    """
    device = pick_device(config.device)
    evaluation = _of_kind(config, device)
    out = config.out or config.run / "evaluation"
    with runs.locked(out):
        started = time.perf_counter()
        measured = evaluation.measure()
        results = _about(config, device) | measured
        results["seconds"] = round(time.perf_counter() - started, 1)
        parts = [*evaluation.sections(results, out), training(config.run / "metrics.jsonl"), foot(results)]
        page = write_report(out, f"wakedream: {evaluation.title}", results, parts)
    print("\n".join([*evaluation.lines(results), f"page: {page}"]))


def kind_of(run: Path) -> str:
    """What the weights of a run folder or of a weights folder are; CheckpointError when there are none."""
    if (run / IN_WORLD).exists():
        return DYNAMICS
    file = weights_folder(run) / "config.json"
    try:
        return str(json.loads(file.read_text(encoding="utf-8"))["kind"])
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{file} is missing or damaged ({error}): take another checkpoint") from error


def _of_kind(config: EvaluateConfig, device: torch.device) -> Evaluation:
    from wakedream.evaluation.dynamics.run import DynamicsEvaluation
    from wakedream.evaluation.tokenizer.run import TokenizerEvaluation

    made: dict[str, Callable[..., Evaluation]] = {TOKENIZER: TokenizerEvaluation, DYNAMICS: DynamicsEvaluation}
    kind = kind_of(config.run)
    if kind not in made:
        raise CheckpointError(f"{config.run} holds a '{kind}': expected the run of a {' or a '.join(made)}")
    given = [name for name in DYNAMICS_ONLY if getattr(config, name) is not None]
    if kind == TOKENIZER and given:
        option = given[0].replace("_", "-")
        raise ConfigError(f"--{option} is for a dynamics model, {config.run} is a tokenizer: leave it out")

    store = Store.open(config.data)
    return made[kind](config, store, device, LPIPS.load(config.lpips_net).to(device) if config.lpips else None)


def _about(config: EvaluateConfig, device: torch.device) -> dict[str, Any]:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    return {
        "lpips_net": config.lpips_net if config.lpips else None,
        "device": name,
        "date": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
        "versions": {
            "wakedream": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }
