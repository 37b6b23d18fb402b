"""What every stage of training does, once; a stage says what it is made of."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import torch

from wakedream import runs
from wakedream.data.store import Store
from wakedream.errors import RunError
from wakedream.model.pretrained import Pretrained
from wakedream.progress import counted
from wakedream.stages.checks import Perception
from wakedream.stages.init import begin_with, starting_weights
from wakedream.training.checkpoint import Checkpoints, judged_by
from wakedream.training.distributed import Place, join
from wakedream.training.loop import Evaluate, Objective, fit
from wakedream.training.optim import build_optimizers
from wakedream.training.run_config import Identity, Source, check_same, claim, is_run, read
from wakedream.training.state import Batches


class Stage:
    """Made of its options, an opened data set and a place, then asked for its parts in the order below.

    Whatever does not fit is refused on the way; nothing is written into the run folder before the first step is taken.

    NAME, MODEL     of the stage, and the class of what it trains
    JUDGES          whether its checks choose the best weights
    """

    NAME: ClassVar[str]
    MODEL: ClassVar[type[Pretrained]]
    JUDGES: ClassVar[bool] = False

    def __init__(self, run: Any, store: Store, place: Place):
        self.run, self.store, self.place = run, store, place

    @property
    def frames(self) -> int:
        """Of a batch, that are learned from."""
        return self.run.loader.batch_size * self.run.loader.length

    def sources(self) -> dict[str, Source]:
        """What it is made from beside the data set."""
        return {}

    def model(self) -> Any:
        """Untrained."""
        raise NotImplementedError

    def prepare(self, model: Any, given: Any = None) -> None:
        """What takes long and is kept elsewhere. given: whose weights the model begins with, if they were given."""

    def objective(self, model: Any, perception: Perception) -> Objective:
        raise NotImplementedError

    def batches(self) -> Batches:
        """An endless iterator, closed in the end."""
        raise NotImplementedError

    def check(self, perception: Perception) -> Evaluate | None:
        """The look at held-out data, if there is any."""
        raise NotImplementedError

    def keep(self, folder: Path) -> None:
        """What else belongs into the run folder."""


def train_stage(make: Callable[[Any, Store, Place], Stage], run: Any, data: Path | str, out: Path | str,
                preset: str) -> None:
    """Train on the data set `data` into the run folder `out`, going on from its latest checkpoint.

    UserError (DataError, ConfigError, ...) before anything is written there; Interrupted after saving.
    """
    data, out = Path(data), Path(out)
    with join(run.train.device) as place, contextlib.ExitStack() as stack:
        store, goes_on, checkpoints = Store.open(data), is_run(out), Checkpoints(out / "checkpoints", 1)
        held = place.writes and (goes_on or (out / ".lock").exists())  # else made with the first step
        if held:
            stack.enter_context(runs.locked(out))
        stage = make(run, store, place)
        resumes = bool(checkpoints.all())
        init = starting_weights(stage.MODEL, run.init, read(out).get("init") if resumes and goes_on else None)
        sources = {"data": {"path": str(data), "fingerprint": store.fingerprint}, **stage.sources(), **init}
        if place.writes:
            check_same(out, Identity(stage.NAME, preset, run, sources))  # before more is done for nothing
        recorded = (read(out).get("judged_by") or judged_by(checkpoints)) if goes_on and stage.JUDGES else None
        perception = Perception(store, place, recorded)
        torch.manual_seed(run.train.seed)
        model = stage.model()
        stage.prepare(model, begin_with(model, run.init) if run.init and not resumes else None)
        objective = stage.objective(model, perception)
        batches: Any = stack.enter_context(stage.batches())  # type: ignore[arg-type]
        look = stage.check(perception)

        def take() -> None:
            """The folder becomes this run's."""
            if not held:
                stack.enter_context(runs.locked(out))
                if is_run(out):
                    raise RunError(f"another run has begun in {out} meanwhile: choose another --out")
            claim(out, Identity(stage.NAME, preset, run, sources, perception.judged_by if stage.JUDGES else None))
            stage.keep(out)

        torch.manual_seed(run.train.seed + place.rank)  # every process draws its own masks and noise
        state = fit(objective, lambda model: build_optimizers(model, run.optim), batches, run.train, place, out,
                    stage.frames, look, label=stage.NAME, claim=take)
    if place.writes:
        limit, following = run.train.minutes, f" Next: wakedream evaluate {out} --data {data}"
        ended = f" in {counted(limit, 'minutes')}, the time limit" if limit and state.step < run.train.steps else ""
        print(f"{out}: {counted(state.step, 'steps')}{ended}.{'' if state.verdict else following}")
