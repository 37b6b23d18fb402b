"""Stage 3: an agent is cloned from data, beside a dynamics model that goes on learning."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wakedream.agent.agent import AgentModel
from wakedream.agent.batches import AgentBatches
from wakedream.agent.cloning import CloningObjective
from wakedream.data.store import Store
from wakedream.dynamics.latents import LatentStore
from wakedream.errors import ConfigError
from wakedream.evaluation.agent.heads import heads_on, last_frames
from wakedream.evaluation.dynamics.windows import check_world
from wakedream.runs import boxed, located
from wakedream.stages.checks import Perception
from wakedream.stages.config import AgentRun
from wakedream.stages.dynamics import encoded, held_out, latents_in
from wakedream.stages.skeleton import Stage, train_stage
from wakedream.tokenizer.tokenizer import Tokenizer
from wakedream.training.config import TrainConfig
from wakedream.training.distributed import Place, shards
from wakedream.training.loop import Evaluate
from wakedream.training.metrics import Check
from wakedream.training.run_config import Source, is_run, read
from wakedream.world.model import TOKENIZER, World


def train_agent(run: AgentRun, data: Path | str, out: Path | str, preset: str = "custom") -> None:
    """On the data set, beside the dynamics model of `run.world`; see `train_stage`."""
    if not run.world:
        raise ConfigError("--world: expected the run folder of a dynamics model: wakedream train dynamics ...")
    train_stage(AgentStage, run, data, out, preset)


class AgentStage(Stage):
    NAME, MODEL = "agent", AgentModel
    run: AgentRun
    latents: LatentStore

    def __init__(self, run: AgentRun, store: Store, place: Place):
        super().__init__(run, store, place)
        check_whole(run.train, place)
        self.world = World.from_pretrained(run.world)
        check_world(self.world, store)
        self.tokenizer = self.world.tokenizer.requires_grad_(False).to(place.device)

    def sources(self) -> dict[str, Source]:
        return {"world": {"path": self.run.world, "fingerprint": self.world.fingerprint()}}

    def model(self) -> AgentModel:
        return AgentModel(self.run.model, self.world.dynamics.train())

    def prepare(self, model: AgentModel, given: Any = None) -> None:
        folder = latents_of(Path(self.run.world), self.store, self.tokenizer, self.run.latents)
        self.latents = encoded(self.store, self.tokenizer, folder, self.place)
        if given is None:
            model.codec.fit(played_actions(self.store))

    def objective(self, model: AgentModel, perception: Perception) -> CloningObjective:
        loader = self.run.loader
        return CloningObjective(model, self.run.objective, loader.batch_size, loader.num_relevant)

    def batches(self) -> AgentBatches:
        run, place = self.run, self.place
        return AgentBatches(self.store, self.latents, run.loader, run.model.tasks, seed=run.train.seed,
                            device=place.device, rank=place.rank, world_size=place.world_size)

    def check(self, perception: Perception) -> Evaluate | None:
        """The dreams of its dynamics model, which must stay what they were, and what its heads say; the last weights
        are kept."""
        clips = self.run.train.evaluation_clips
        look = held_out(self.store, self.latents, self.tokenizer, clips, self.place, perception)
        if look is None:
            return None

        play = last_frames(self.store, lambda *frames: self.latents.read(*frames)[0])

        def evaluate(agent: Any) -> Check:
            found = look(agent.dynamics)
            return Check(found.values | heads_on(agent, play), found.picture, verdict=found.verdict)

        return evaluate

    def keep(self, folder: Path) -> None:
        self.tokenizer.save_within(folder / TOKENIZER)


def check_whole(train: TrainConfig, place: Place) -> None:
    """ConfigError where the model would be split: an agent's parts are called one by one, and dream."""
    if shards(train, place):
        raise ConfigError(f"--train.parallel {train.parallel} splits the model over the processes, and an agent is "
                          "trained whole: expected ddp")


def latents_of(run: Path, store: Store, tokenizer: Tokenizer, given: str = "") -> Path:
    """Where a data set's latents are kept: what is given; else where the stages before kept theirs, if that is still
    there; else where those of the run's own tokenizer are (`latents_in`)."""
    if given:
        return Path(given)
    run = located(run)
    config = read(run)["config"] if is_run(run) else {}
    for before in (config.get("world"), config.get("agent")):
        if before and _is_there(Path(before)):
            return latents_of(Path(before), store, tokenizer)
    if config.get("latents"):
        return Path(config["latents"])
    named = Path(config.get("tokenizer") or run / TOKENIZER)
    return latents_in(named if _is_there(named) else run / TOKENIZER, store, tokenizer)


def _is_there(path: Path) -> bool:
    return path.exists() or boxed(path) is not None


def played_actions(store: Store) -> dict[str, Tensor]:
    """All known actions of the training split, by component (n ...)."""
    columns = [store.columns(info.id) for info in store.split("train")]
    known = [torch.from_numpy(part["has_action"]) for part in columns]
    return {c.name: torch.cat([torch.from_numpy(part[f"actions/{c.name}"])[where]
                               for part, where in zip(columns, known, strict=True)]) for c in store.spec.components}
