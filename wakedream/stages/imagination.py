"""Stage 4: the cloned agent practises inside its dream; the policy and a value learn, all else stays."""

from pathlib import Path
from typing import Any

from wakedream.agent.agent import AgentModel
from wakedream.agent.batches import ContextBatches
from wakedream.agent.imagination import ImaginationObjective
from wakedream.data.store import Store
from wakedream.dynamics.latents import LatentStore
from wakedream.errors import ConfigError
from wakedream.stages.agent import check_whole, latents_of
from wakedream.stages.checks import Perception
from wakedream.stages.config import ImaginationRun
from wakedream.stages.dynamics import encoded
from wakedream.stages.skeleton import Stage, train_stage
from wakedream.tokenizer.tokenizer import Tokenizer
from wakedream.training.distributed import Place
from wakedream.training.loop import Evaluate
from wakedream.training.run_config import Source
from wakedream.world.model import TOKENIZER, tokenizer_of


def train_imagination(run: ImaginationRun, data: Path | str, out: Path | str, preset: str = "custom") -> None:
    """From contexts of the data set, with the agent of `run.agent`; see `train_stage`."""
    if not run.agent:
        raise ConfigError("--agent: expected the run folder of a cloned agent: wakedream train agent ...")
    train_stage(ImaginationStage, run, data, out, preset)


class ImaginationStage(Stage):
    NAME, MODEL = "imagination", AgentModel
    run: ImaginationRun
    latents: LatentStore

    def __init__(self, run: ImaginationRun, store: Store, place: Place):
        super().__init__(run, store, place)
        check_whole(run.train, place)
        self.agent = AgentModel.from_pretrained(run.agent)
        self.mark = self.agent.fingerprint()
        self.tokenizer = Tokenizer.from_pretrained(tokenizer_of(Path(run.agent))).requires_grad_(False).to(place.device)

    @property
    def frames(self) -> int:
        """Dreamed ones."""
        return self.run.loader.batch_size * self.run.objective.horizon

    def sources(self) -> dict[str, Source]:
        return {"agent": {"path": self.run.agent, "fingerprint": self.mark}}

    def model(self) -> AgentModel:
        return self.agent

    def prepare(self, model: AgentModel, given: Any = None) -> None:
        folder = latents_of(Path(self.run.agent), self.store, self.tokenizer, self.run.latents)
        self.latents = encoded(self.store, self.tokenizer, folder, self.place)

    def objective(self, model: AgentModel, perception: Perception) -> ImaginationObjective:
        loader = self.run.loader
        return ImaginationObjective(model, self.run.objective, loader.batch_size, loader.num_starts, self.place.mean)

    def batches(self) -> ContextBatches:
        run, place = self.run, self.place
        return ContextBatches(self.store, self.latents, run.loader, self.agent.config.tasks, seed=run.train.seed,
                              device=place.device, rank=place.rank, world_size=place.world_size)

    def check(self, perception: Perception) -> Evaluate | None:
        return None

    def keep(self, folder: Path) -> None:
        self.tokenizer.save_within(folder / TOKENIZER)
