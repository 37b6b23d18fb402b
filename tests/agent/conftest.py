"""A small world whose reward is a known function of the action, and an agent cloned in it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from agent.known_world import FATAL, FRAMES, LEVELS, REWARDED

from wakedream.agent.agent import AgentModel
from wakedream.agent.batches import AgentBatches
from wakedream.agent.cloning import CloningObjective
from wakedream.agent.config import AgentConfig, AgentLoaderConfig, CloningConfig
from wakedream.data.actions import ActionComponent, ActionSpec
from wakedream.data.episode import Episode
from wakedream.data.store import Store
from wakedream.data.writer import StoreWriter
from wakedream.dynamics.config import DynamicsConfig
from wakedream.dynamics.dynamics import Dynamics
from wakedream.dynamics.encode import encode_store
from wakedream.tokenizer.config import TokenizerConfig
from wakedream.tokenizer.tokenizer import Tokenizer
from wakedream.training.config import OptimConfig, TrainConfig
from wakedream.training.distributed import Place
from wakedream.training.loop import fit
from wakedream.training.optim import build_optimizers

SPEC = ActionSpec((ActionComponent("move", "categorical", 4),))


def write_known(path: Path) -> Store:
    """Play at random in the world of known_world.py."""
    rng = np.random.default_rng(0)
    with StoreWriter(path, SPEC, frame_shape=(16, 16, 3), held_out=0.2,
                     info={"env": "agent.known_world:Known-v0"}) as writer:
        for _ in range(60):
            moves = [0]
            while len(moves) < FRAMES and not (moves[-1] == FATAL and rng.random() < 0.5):
                moves.append(int(rng.integers(4)))
            ended = moves[-1] == FATAL and len(moves) < FRAMES
            known = np.arange(len(moves)) > 0
            video = np.repeat(LEVELS[moves], 16 * 16 * 3).reshape(-1, 16, 16, 3)
            rewards = ((np.array(moves) == REWARDED) & known).astype(np.float32)
            writer.add(Episode(video, {"move": np.array(moves)}, known, rewards, ended, not ended))
    return Store.open(path)


@pytest.fixture(scope="session")
def known(tmp_path_factory):
    """Store, tokenizer, latents, and an agent cloned for 250 steps beside a dynamics model that learns as it does."""
    folder = tmp_path_factory.mktemp("known")
    store = write_known(folder / "data")
    torch.manual_seed(0)
    tokenizer = Tokenizer(TokenizerConfig(height=16, width=16, patch_size=8, dim=16, encoder_depth=2, decoder_depth=2,
                                          heads=2, mlp_dim=16, num_latents=4, latent_dim=4, pattern=("space", "time")))
    latents = encode_store(tokenizer, store, folder / "latents", show_progress=False)
    dynamics = Dynamics(DynamicsConfig(num_latents=4, latent_dim=4, dim=32, depth=2, heads=2, mlp_dim=64,
                                       pattern=("space", "time"), window=8, finest_steps=8), SPEC)
    dynamics.latent_mean.copy_(latents.mean)
    dynamics.latent_scale.fill_(latents.scale)
    agent = AgentModel(AgentConfig(num_tokens=2, mlp_dim=32, mlp_depth=1, distance=2, bins=41, limit=2.0), dynamics)
    loader = AgentLoaderConfig(batch_size=16, length=12, short=4, relevant="all")
    objective = CloningObjective(agent, CloningConfig(bootstrap_from=0), 16, loader.num_relevant)
    train = TrainConfig(steps=250, warmup_steps=10, precision="float32", compile="off", device="cpu", log_every=50,
                        save_every=1000, ema_decay=0.9)
    fit(objective, lambda model: build_optimizers(model, OptimConfig(adamw_lr=3e-3)),
        AgentBatches(store, latents, loader), train, Place(torch.device("cpu")), folder / "run", 16 * 12)
    return store, tokenizer, latents, folder / "run"


@pytest.fixture
def agent(known):
    return AgentModel.from_pretrained(known[3])
