"""A head that learns rewards beside an unchanged dynamics model: tokens of its own in every frame, some rows at the
commit level, a video loss on the others, and the hidden outputs of the same look. Nothing in wakedream/ knows of it."""

from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from wakedream.data.actions import ActionComponent, ActionSpec
from wakedream.data.episode import Episode
from wakedream.data.store import Store
from wakedream.data.writer import StoreWriter
from wakedream.dynamics.batches import LatentBatches, evaluation_latents
from wakedream.dynamics.clip import LatentClip
from wakedream.dynamics.config import DynamicsConfig, DynamicsObjectiveConfig, LatentLoaderConfig
from wakedream.dynamics.dynamics import Dynamics
from wakedream.dynamics.encode import encode_store
from wakedream.dynamics.engine import DreamEngine
from wakedream.dynamics.forcing import bootstrap_rows, draw, masked_mean, shortcut_losses, targets
from wakedream.dynamics.objective import DynamicsObjective
from wakedream.model.pretrained import Pretrained
from wakedream.tokenizer.config import TokenizerConfig
from wakedream.tokenizer.tokenizer import Tokenizer
from wakedream.training.config import OptimConfig, TrainConfig
from wakedream.training.distributed import Place
from wakedream.training.loop import fit
from wakedream.training.optim import build_optimizers

REWARDED, DIM = 2, 32
SPEC = ActionSpec((ActionComponent("move", "categorical", 4),))


class Agent(Pretrained):
    """Two tokens beside a dynamics model, and what reward arrived with the frame, read from what they put out."""

    KIND = "reward reader"

    def __init__(self, dynamics: Dynamics):
        super().__init__()
        self.dynamics, self.config = dynamics, dynamics.config
        self.tokens = nn.Parameter(torch.randn(2, DIM))
        self.reward = nn.Linear(2 * DIM, 1)

    def about(self) -> dict[str, Any]:
        return self.dynamics.about()

    @classmethod
    def build(cls, about: dict[str, Any]) -> Self:
        return cls(Dynamics.build(about))

    def read(self, out: Tensor) -> Tensor:
        """(... k d) to (...)"""
        return self.reward(out.float().flatten(-2)).squeeze(-1)


class AgentObjective(DynamicsObjective):
    """The video loss on the first half of the rows as ever; the others, at the commit level, teach the reward."""

    def __init__(self, agent: Agent, batch_size: int):
        super().__init__(agent.dynamics, DynamicsObjectiveConfig(bootstrap_from=0), batch_size)
        self.model = agent  # what is trained, averaged and saved
        self.weights = {**self.weights, "reward": 1.0}

    @property
    def dynamics(self) -> Dynamics:
        return self.model.dynamics

    @property
    def compiled(self) -> list[nn.Module]:
        return self.blocks

    def prepare(self, step: int) -> bool:
        self.bootstraps = True
        return True

    def forward(self, clip: LatentClip) -> dict[str, Tensor]:
        agent, dynamics, clean = self.model, self.dynamics, self.dynamics.standardise(clip.latents)
        rows, frames = clean.shape[:2]
        video = (torch.arange(rows) < rows // 2)[:, None].expand(rows, frames)
        drawn = draw(clean, dynamics.config.finest_steps, bootstrap_rows(rows // 2, 1, clean.device), at_commit=~video)
        look = dynamics(drawn.noised, clip.trajectory, segments=clip.segments, keep=("agent",),
                        tokens={"agent": agent.tokens.expand(rows, frames, *agent.tokens.shape)})
        target = targets(lambda noised, part: dynamics(noised, part.trajectory, segments=part.segments).latents,
                         clip, drawn, clean, dynamics.config.finest_steps)
        losses = shortcut_losses(dynamics.config, look.latents, target, drawn, mask=video)
        wrong = (agent.read(look.outputs["agent"]) - clip.rewards).square()
        return losses | {"reward": masked_mean(wrong, clip.has_reward & ~video)}


def write_played(path: Path) -> Store:
    """A reward of 1 arrives with every frame that the third move led into."""
    rng = np.random.default_rng(0)
    with StoreWriter(path, SPEC, frame_shape=(16, 16, 3), held_out=0.3, info={"env": "squares"}) as writer:
        for _ in range(8):
            known = np.arange(24) > 0
            moves = rng.integers(0, 4, 24) * known
            video = rng.integers(0, 256, (24, 16, 16, 3), np.uint8)
            rewards = ((moves == REWARDED) & known).astype(np.float32)
            writer.add(Episode(video, {"move": moves}, known, rewards, True, False))
    return Store.open(path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("agent")
    store = write_played(folder / "data")
    torch.manual_seed(0)
    tokenizer = Tokenizer(TokenizerConfig(height=16, width=16, patch_size=8, dim=16, encoder_depth=2, decoder_depth=2,
                                          heads=2, mlp_dim=16, num_latents=4, latent_dim=4, pattern=("space", "time")))
    latents = encode_store(tokenizer, store, folder / "latents", show_progress=False)
    dynamics = Dynamics(DynamicsConfig(num_latents=4, latent_dim=4, dim=DIM, depth=2, heads=2, mlp_dim=64,
                                       pattern=("space", "time"), window=8, finest_steps=8), SPEC)
    names = set(dynamics.state_dict())
    batches = LatentBatches(store, latents, config=LatentLoaderConfig(batch_size=8, length=8, short=4))
    agent = Agent(dynamics)
    train = TrainConfig(steps=150, warmup_steps=10, precision="float32", compile="off", device="cpu", log_every=50,
                        save_every=1000, ema_decay=0.9)
    place, objective = Place(torch.device("cpu")), AgentObjective(agent, 8)
    fit(objective, lambda model: build_optimizers(model, OptimConfig()), batches, train, place, folder / "run", 64)
    return folder / "run", names, evaluation_latents(store, latents, "held_out", 8, 16)


def test_it_trains_saves_and_loads_like_any_stage_and_the_dynamics_model_stays_what_it_is(trained):
    run, names, _ = trained
    agent = Agent.from_pretrained(run)
    assert set(agent.dynamics.state_dict()) == names
    assert {name.removeprefix("dynamics.") for name in agent.state_dict()} == names | {
        "tokens", "reward.weight", "reward.bias"}


def test_what_it_learned_is_read_at_the_commit_of_every_dreamed_frame(trained):
    """Rewards in the dream, and of held-out frames that really happened."""
    run, _, clip = trained
    agent = Agent.from_pretrained(run)
    engine = DreamEngine(agent.dynamics, 8, tokens={"agent": agent.tokens}, keep=("agent",))
    engine.start(latents=clip.latents, trajectory=clip.trajectory, seeds=torch.arange(8))
    engine.reset()
    seen = agent.read(engine.observe(clip.latents, clip.trajectory)["agent"])
    assert clip.has_reward.any() and 0.1 < clip.rewards[clip.has_reward].mean() < 0.5
    assert (seen - clip.rewards)[clip.has_reward].abs().mean() < 0.15
    for move in range(4):
        step = engine.step({"move": torch.full((8,), move)})
        assert (agent.read(step.outputs["agent"]) - float(move == REWARDED)).abs().mean() < 0.3
