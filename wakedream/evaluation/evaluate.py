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
from wakedream.data.manifest import SHARDS
from wakedream.data.store import Store
from wakedream.device import pick_device
from wakedream.errors import ConfigError
from wakedream.evaluation.config import AGENT, DYNAMICS, EVALUATE, TOKENIZER, EvaluateConfig
from wakedream.evaluation.kinds import kind_of
from wakedream.evaluation.page.report import foot, training, write_report
from wakedream.owned import refuse_owned
from wakedream.perceptual.lpips import LPIPS
from wakedream.runs import run_of


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

    config: of the kind that the run is, or plain, for a run of any kind. CheckpointError without usable weights,
    ConfigError for frames of another size, DataError for other actions or no held-out episodes that are long enough,
    WeightsError without LPIPS weights: all before anything is written.
    """
    out = config.out or place_of(config.run)
    runs.check_apart(out, _read(config))
    refuse_owned(out, run_of(config.run))
    runs.check_place(out)
    device = pick_device(config.device)
    evaluation = _of_kind(config, device)
    with runs.locked(out):
        started = time.perf_counter()
        measured = evaluation.measure()
        results = _about(config, device) | measured
        results["seconds"] = round(time.perf_counter() - started, 1)
        curves = training(run_of(config.run) / "metrics.jsonl")
        parts = [*evaluation.sections(results, out), curves, foot(results)]
        page = write_report(out, f"wakedream: {evaluation.title}", results, parts)
    print("\n".join([*evaluation.lines(results), f"page: {page}"]))


def _read(config: EvaluateConfig) -> list[Path]:
    """Folders in which a page and its numbers would spoil something."""
    run = run_of(config.run)
    inside = ("checkpoints", "model", runs.BEST, "tokenizer", "dynamics")
    return [config.run, run, *(run / name for name in inside), config.data, config.data / SHARDS]


def place_of(run: Path) -> Path:
    """Where an evaluation is written unless it is said: never into best weights or a checkpoint, which are replaced and
    removed while training goes on; and what comes with wakedream is not the user's to write into."""
    if (boxed := runs.boxed(run)) is not None:
        return Path(f"{boxed}-evaluation")
    place = run_of(run) / "evaluation"
    inside = run.parent if run.absolute().name == "model" else run
    return place if run_of(run) == run else place / inside.absolute().name


def _of_kind(config: EvaluateConfig, device: torch.device) -> Evaluation:
    from wakedream.evaluation.agent.run import AgentEvaluation
    from wakedream.evaluation.dynamics.run import DynamicsEvaluation
    from wakedream.evaluation.tokenizer.run import TokenizerEvaluation

    made: dict[str, Callable[..., Evaluation]] = {TOKENIZER: TokenizerEvaluation, DYNAMICS: DynamicsEvaluation,
                                                  AGENT: AgentEvaluation}
    kind = kind_of(config.run)
    own = EVALUATE[kind]
    if type(config) is EvaluateConfig:
        config = own(**vars(config))
    if not isinstance(config, own):
        raise ConfigError(f"{config.run} is a {kind}: expected a {own.__name__}, got a {type(config).__name__}")
    store = Store.open(config.data)
    seen = config.lpips and kind != AGENT
    return made[kind](config, store, device, LPIPS.load(config.lpips_net).to(device) if seen else None)


def _training(run: Path) -> dict[str, Any]:
    """The run's preset, what weights it began with, and its steps and minutes so far; of bare weights nothing is
    known."""
    config = run / "config.json"
    about = json.loads(config.read_text(encoding="utf-8")) if config.exists() else {}
    found = {"preset": about["preset"]} if "preset" in about else {}
    if "init" in about:
        found["init"] = about["init"]["path"]
    lines = [line for line in runs.log_lines(run / "metrics.jsonl") if "elapsed" in line]
    return found | ({"steps": lines[-1]["step"], "minutes": lines[-1]["elapsed"] / 60} if lines else {})


def _about(config: EvaluateConfig, device: torch.device) -> dict[str, Any]:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    return {
        "lpips_net": config.lpips_net if config.lpips else None,
        "training": _training(run_of(config.run)),
        "device": name,
        "date": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
        "versions": {
            "wakedream": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }
