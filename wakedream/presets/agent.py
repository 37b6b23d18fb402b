"""Complete configs of agents by name: cloning, then imagination. Imports no torch."""

from collections.abc import Callable
from dataclasses import replace

from wakedream.agent.config import AgentConfig, AgentLoaderConfig, CloningConfig, ContextConfig, ImaginationConfig
from wakedream.config import suggest
from wakedream.stages.config import AgentRun, ImaginationRun
from wakedream.training.config import OptimConfig, TrainConfig


def debug_agent() -> AgentRun:
    """Beside the dynamics model `debug`: a minute on two CPU cores, every part in use."""
    return AgentRun(
        model=AgentConfig(num_tokens=2, mlp_dim=64, mlp_depth=1, distance=4, bins=41),
        objective=CloningConfig(bootstrap_from=0),
        loader=AgentLoaderConfig(batch_size=8, length=16, short=8),
        optim=OptimConfig(),
        train=TrainConfig(steps=300, warmup_steps=20, ema_decay=0.99, evaluate_every=150, evaluation_clips=8,
                          save_every=300, compile="off"),
    )


def demo_agent() -> AgentRun:
    """Beside the dynamics model `demo`, three minutes on two CPU cores. That has learned for minutes alone: with fewer
    uniform rows, or less weight on them, its dreams get worse (docs/log.md)."""
    return AgentRun(
        model=AgentConfig(num_tokens=4, reads_frame=True, mlp_dim=256, mlp_depth=2, distance=4),
        objective=CloningConfig(bootstrap_from=0, commit_fraction=1.0,  # so short: what is read later alone
                                video_weight=2.0),
        loader=AgentLoaderConfig(batch_size=48, length=16, short=8, long_fraction=0.65, image_fraction=0.1,
                                 relevant_fraction=1 / 3),
        optim=OptimConfig(lr=0.01, adamw_lr=2e-3),
        train=TrainConfig(steps=100_000, minutes=3.0, warmup_steps=50, ema_decay=0.99, evaluate_every=500,
                          evaluation_clips=8, save_every=5000, compile="on"),
    )


def crafter_agent() -> AgentRun:
    """Beside the dynamics models `crafter` and `coinrun`, on one GPU. Twice as many uniform rows as relevant ones
    and the `loss_floor` kept the dreams of Crafter, DoorKey and CoinRun (docs/log.md)."""
    return AgentRun(
        model=AgentConfig(num_tokens=4, reads_frame=True, mlp_dim=512),
        objective=CloningConfig(bootstrap_from=0, video_weight=2.0),
        loader=AgentLoaderConfig(batch_size=36, length=64, short=16, long_fraction=0.65, image_fraction=0.1,
                                 relevant_fraction=1 / 3),
        optim=OptimConfig(lr=0.01, adamw_lr=5e-4),
        train=TrainConfig(steps=200_000, minutes=8.0, warmup_steps=200, ema_decay=0.999, evaluate_every=2000,
                          evaluation_clips=32, save_every=10_000),
    )


def crafter_small_agent() -> AgentRun:
    """That of the world `crafter-small`, two minutes on one GPU; relevant is what Crafter counts as an achievement.
    The world's own rows and weights: half of them relevant."""
    recommended = crafter_agent()
    return replace(
        recommended, model=replace(recommended.model, mlp_dim=128, distance=4),
        objective=replace(recommended.objective, video_weight=1.0, loss_floor=0.0),
        loader=replace(recommended.loader, batch_size=24, relevant_fraction=0.5, relevant="events"),
        train=replace(recommended.train, minutes=1.9, compile="off"))


def debug_imagination() -> ImaginationRun:
    """After the agent `debug`: a minute on two CPU cores, every part in use."""
    return ImaginationRun(
        objective=ImaginationConfig(horizon=8, sampling_steps=2, value_first=10),
        loader=ContextConfig(batch_size=16, length=8),
        optim=OptimConfig(adamw_lr=1e-3),
        train=TrainConfig(steps=50, warmup_steps=5, decay_fraction=0.1, ema_decay=0.9, save_every=1000, log_every=5,
                          compile="off"),
    )


def demo_imagination() -> ImaginationRun:
    """After the agent `demo`, four minutes on two CPU cores. Its heads have seen few rewards, and over hundreds of
    frames a little said for nothing is worth more than the goal (docs/log.md): it looks some twenty ahead."""
    return ImaginationRun(
        objective=ImaginationConfig(horizon=16, sampling_steps=2, gamma=0.95, value_first=30),
        loader=ContextConfig(batch_size=64, length=16),
        optim=OptimConfig(adamw_lr=1e-3),
        train=TrainConfig(steps=100_000, minutes=4.0, warmup_steps=10, decay_fraction=0.2, ema_decay=0.95,
                          save_every=25, keep_checkpoints=8, log_every=5, compile="off"),
    )


def crafter_imagination() -> ImaginationRun:
    """After the agent `crafter`, on one GPU."""
    return ImaginationRun(
        objective=ImaginationConfig(horizon=16),
        loader=ContextConfig(batch_size=64, length=16),
        optim=OptimConfig(adamw_lr=3e-4),
        train=TrainConfig(steps=100_000, minutes=8.0, warmup_steps=50, decay_fraction=0.2, ema_decay=0.98,
                          save_every=500, keep_checkpoints=8, compile="off"),
    )


def crafter_small_imagination() -> ImaginationRun:
    """After the agent `crafter-small`, three minutes on one GPU."""
    recommended = crafter_imagination()
    return replace(
        recommended, objective=replace(recommended.objective, sampling_steps=2),
        loader=replace(recommended.loader, relevant="events"), train=replace(recommended.train, minutes=3.2))


AGENTS: dict[str, Callable[[], AgentRun]] = {
    "debug": debug_agent, "demo": demo_agent, "crafter": crafter_agent, "crafter-small": crafter_small_agent,
}
IMAGINATIONS: dict[str, Callable[[], ImaginationRun]] = {
    "debug": debug_imagination, "demo": demo_imagination, "crafter": crafter_imagination,
    "crafter-small": crafter_small_imagination,
}


def agent_preset(name: str) -> AgentRun:
    """The preset's complete config; ConfigError with the nearest name if there is none."""
    if name not in AGENTS:
        raise suggest("agent preset", name, AGENTS)
    return AGENTS[name]()


def imagination_preset(name: str) -> ImaginationRun:
    """The preset's complete config; ConfigError with the nearest name if there is none."""
    if name not in IMAGINATIONS:
        raise suggest("imagination preset", name, IMAGINATIONS)
    return IMAGINATIONS[name]()
