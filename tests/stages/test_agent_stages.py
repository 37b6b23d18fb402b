"""Stages 3 and 4: resumed bit for bit, what they are made from is checked, what does not fit is refused."""

from dataclasses import replace

import pytest
import torch
from agent.conftest import write_known
from stages.conftest import small_dynamics, small_train, write_tokenizer

from wakedream.agent.agent import AgentModel
from wakedream.agent.config import AgentConfig, AgentLoaderConfig, CloningConfig, ContextConfig, ImaginationConfig
from wakedream.errors import CheckpointError, ConfigError, DataError
from wakedream.presets.agent import AGENTS, IMAGINATIONS, agent_preset, imagination_preset
from wakedream.stages.agent import train_agent
from wakedream.stages.config import AgentRun, ImaginationRun
from wakedream.stages.dynamics import train_dynamics
from wakedream.stages.imagination import train_imagination
from wakedream.training.config import OptimConfig
from wakedream.training.summary import describe
from wakedream.world.policy import Agent


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A data set, a dynamics model's run on it, an agent's run of four steps."""
    folder = tmp_path_factory.mktemp("stages")
    write_world(folder)
    train_agent(agent_run(folder), folder / "data", folder / "agent", "debug")
    return folder


def write_world(folder):
    """A data set and a dynamics model's run on it."""
    write_known(folder / "data")
    train_dynamics(world_run(write_tokenizer(folder / "eyes")), folder / "data", folder / "world", "debug")


def world_run(tokenizer, **train):
    run = small_dynamics(tokenizer, **train)
    return replace(run, model=replace(run.model, depth=2, pattern=("space", "time")))


def agent_run(folder, **train):
    return AgentRun(AgentConfig(num_tokens=2, mlp_dim=16, mlp_depth=1, distance=2, bins=21), CloningConfig(
        bootstrap_from=0), AgentLoaderConfig(batch_size=6, length=8, short=4), OptimConfig(), small_train(**train),
        world=str(folder / "world"))


def imagination_run(folder, **train):
    return ImaginationRun(ImaginationConfig(horizon=3, sampling_steps=2, value_first=1), ContextConfig(
        batch_size=8, length=4), OptimConfig(), small_train(**train), agent=str(folder / "agent"))


@pytest.mark.parametrize("stage", ["agent", "imagination"])
def test_two_steps_and_two_more_are_four(made, tmp_path, stage):
    train, run = (train_agent, agent_run) if stage == "agent" else (train_imagination, imagination_run)
    train(run(made), made / "data", tmp_path / "whole", "debug")
    for steps in (2, 4):
        own = run(made, steps=steps, decay_fraction=0.0)
        train(own, made / "data", tmp_path / "parts", "debug")
    train(run(made, decay_fraction=0.0), made / "data", tmp_path / "straight", "debug")
    parts, straight = (AgentModel.from_pretrained(tmp_path / name).state_dict() for name in ("parts", "straight"))
    assert not [name for name in parts if not torch.equal(parts[name], straight[name])]
    assert (tmp_path / "whole" / "tokenizer" / "config.json").exists()
    assert f"stage: {stage}" in describe(tmp_path / "whole")
    assert Agent.from_pretrained(tmp_path / "whole").act(torch.zeros(2, 3, 16, 16))["move"].shape == (2,)


def test_what_they_are_made_from_is_asked_for(made, tmp_path):
    with pytest.raises(ConfigError, match="--world: expected the run folder of a dynamics model"):
        train_agent(replace(agent_run(made), world=""), made / "data", tmp_path / "run")
    with pytest.raises(ConfigError, match="--agent: expected the run folder of a cloned agent"):
        train_imagination(replace(imagination_run(made), agent=""), made / "data", tmp_path / "run")
    with pytest.raises(CheckpointError, match="expected a agent|expected an agent"):
        train_imagination(replace(imagination_run(made), agent=str(made / "world")), made / "data", tmp_path / "run")
    for relevant, error, told in (("jump", ConfigError, "no event jump; it has none"),
                                  ("best:2", ConfigError, "a share above 0 and up to 1"),
                                  ("events", DataError, "nothing relevant .events. happens")):
        run = agent_run(made)
        run = replace(run, loader=replace(run.loader, relevant=relevant))
        with pytest.raises(error, match=told):
            train_agent(run, made / "data", tmp_path / "run")
    run = agent_run(made)
    with pytest.raises(ConfigError, match="unknown task 'rewrd'; did you mean 'reward'"):
        train_agent(replace(run, model=replace(run.model, tasks=("rewrd",))), made / "data", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_world_stays_what_it_was_in_imagination(made, tmp_path):
    train_imagination(imagination_run(made), made / "data", tmp_path / "run", "debug")
    before, after = (AgentModel.from_pretrained(path).dynamics.fingerprint() for path in (made / "agent",
                                                                                          tmp_path / "run"))
    assert before == after


def test_every_preset_is_whole():
    assert set(AGENTS) == set(IMAGINATIONS)
    for name in AGENTS:
        agent, imagination = agent_preset(name), imagination_preset(name)
        assert 0 < agent.loader.num_relevant < agent.loader.batch_size
        assert (imagination.objective.horizon and "minute" in (AGENTS[name].__doc__ or "")) or name == "crafter"
    with pytest.raises(ConfigError, match="crafter"):
        agent_preset("craftr")
