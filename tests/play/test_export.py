"""What is exported is what was trained, rounded; it plays by itself, and one in the box is found by its name."""

import numpy as np
import pytest
import torch
from agent.conftest import known  # noqa: F401
from safetensors.torch import load_file

import wakedream as wd
from wakedream import runs
from wakedream.agent.agent import AgentModel
from wakedream.cli import main
from wakedream.data.store import Store
from wakedream.dynamics.dynamics import Dynamics
from wakedream.errors import CheckpointError, RunError
from wakedream.evaluation.kinds import kind_of
from wakedream.play.export import export, moments_of
from wakedream.play.export_config import ExportConfig
from wakedream.presets.agent import agent_preset
from wakedream.presets.dynamics import dynamics_preset
from wakedream.presets.tokenizer import tokenizer_preset
from wakedream.tokenizer.tokenizer import Tokenizer
from wakedream.world.model import World
from wakedream.world.policy import Agent
from wakedream.world.starts import Starts


@pytest.fixture(scope="module")
def agent(known, tmp_path_factory):  # noqa: F811
    """As a run leaves it: the dynamics model knows its tokenizer."""
    made = Agent(known[1], AgentModel.from_pretrained(known[3]))
    made.model.dynamics.tokenizer = known[1].fingerprint()
    folder = tmp_path_factory.mktemp("agent") / "whole"
    made.save_pretrained(folder)
    return made, folder


@pytest.fixture
def exported(agent, known, tmp_path):  # noqa: F811
    export(ExportConfig(agent[1], tmp_path / "small", known[0].path, moments=3, length=5))
    return tmp_path / "small"


def test_weights_are_kept_in_half_the_size_and_read_as_numbers_of_bf16(agent, exported):
    for name in ("agent", "tokenizer"):
        kept = load_file(exported / name / "model.safetensors")
        assert any(tensor.dtype == torch.bfloat16 for tensor in kept.values())
        whole = (agent[1] / name / "model.safetensors").stat().st_size
        assert (exported / name / "model.safetensors").stat().st_size < 0.65 * whole
    again, source = Agent.from_pretrained(exported), agent[0]
    for mine, theirs in ((again.model, source.model), (again.tokenizer, source.tokenizer)):
        given = dict(theirs.named_parameters())
        for name, weight in mine.named_parameters():
            assert weight.dtype == torch.float32 and torch.equal(weight, given[name].bfloat16().float()), name
        assert all(torch.equal(a, b) for a, b in zip(mine.buffers(), theirs.buffers(), strict=True))
    assert again.model.dynamics.tokenizer == again.tokenizer.fingerprint()  # World compares them


def test_a_world_is_read_of_an_agent(agent, exported, tmp_path):
    """Of its folder and of its run, which the dynamics model lies in."""
    for folder in (agent[1], exported, agent[1] / "agent"):
        if folder.name != "agent":
            world = World.from_pretrained(folder)
            assert world.fingerprint() == Agent.from_pretrained(folder).world.fingerprint()
        dynamics, whole = Dynamics.from_pretrained(folder), AgentModel.from_pretrained(folder)
        assert dynamics.fingerprint() == whole.dynamics.fingerprint()
    with pytest.raises(CheckpointError, match="describes 'agent', expected a tokenizer"):
        Tokenizer.from_pretrained(exported / "agent")
    World.from_pretrained(exported).save_pretrained(tmp_path / "world", "bf16")
    assert World.from_pretrained(tmp_path / "world").fingerprint() == World.from_pretrained(exported).fingerprint()


def test_its_moments_are_of_the_data_and_begin_dreams(exported, known):  # noqa: F811
    folder = moments_of(exported)
    assert folder is not None and moments_of(known[3]) is None
    kept, source = Store.open(folder), known[0]
    assert [info.frames for info in kept.split("train")] == [5, 5, 5] and not kept.split("held_out")
    videos = [source.read(info.id).video for info in source.split("train")]
    for info in kept.split("train"):
        moment = kept.read(info.id)
        assert any(np.array_equal(video[t:t + 5], moment.video) for video in videos for t in range(len(video) - 4))
        assert not moment.has_action[0] and moment.has_action[1:].all()
    starts = Starts(World.from_pretrained(exported), folder, 4)
    latents, trajectory = starts.seen([starts.draw(np.random.default_rng(0))])
    assert latents.shape[:2] == (1, 4) and trajectory.has_action[0, 1:].all()


def test_a_world_in_the_box_is_found_by_its_name(exported, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(runs, "BOX", exported.parent)
    monkeypatch.chdir(tmp_path / "..")
    world = World.from_pretrained(exported)
    assert World.from_pretrained("small").fingerprint() == world.fingerprint()
    assert Agent.from_pretrained("small").world.fingerprint() == world.fingerprint()
    assert Tokenizer.from_pretrained("small").fingerprint() == world.tokenizer.fingerprint()
    assert kind_of(runs.Path("small")) == "agent" and moments_of(runs.Path("small")) == exported / "starts"
    assert main(["dream", "smal", "--out", str(tmp_path / "x.mp4")]) == 2
    assert "comes with wakedream: small" in capsys.readouterr().err
    assert main(["dream", "small", "--out", str(tmp_path / "x.mp4"), "--frames", "2", "--clips", "1"]) == 0
    (tmp_path / ".." / "small").mkdir()  # what is there by that name goes before
    with pytest.raises(CheckpointError, match="small is neither a run nor a weights folder"):
        World.from_pretrained("small")


def test_what_holds_something_else_is_not_written_into(agent, tmp_path):
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(RunError, match="something else"):
        export(ExportConfig(agent[1], tmp_path))
    assert wd.__version__ and sorted(file.name for file in tmp_path.iterdir()) == ["manifest.json"]


@pytest.mark.parametrize("folder", sorted(runs.BOX.iterdir()), ids=lambda folder: folder.name)
def test_what_is_in_the_box_is_whole_small_and_described(folder):
    name, agent = folder.name, Agent.from_pretrained(folder.name)  # verifies its checksums
    assert (folder / "README.md").read_text(encoding="utf-8").startswith(f"# {name}\n")
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) < 24e6
    models = (agent.tokenizer, agent.world.dynamics, agent.model)
    presets = (tokenizer_preset(name), dynamics_preset(name), agent_preset(name))
    assert [model.config for model in models] == [preset.model for preset in presets]
    assert agent.world.dynamics.tokenizer == agent.tokenizer.fingerprint()


def test_a_dream_of_the_box_goes_on_from_its_moments():
    """Who waits sees what there was, as each goes on in its own way."""
    world = World.from_pretrained("crafter-small")
    moments = Starts(world, runs.BOX / "crafter-small" / "starts", 16).some(2, np.random.default_rng(0))
    video = torch.from_numpy(np.stack([moment.video for moment in moments])).permute(0, 1, 4, 2, 3)
    dream = world.dream(video, {"action": np.stack([moment.actions["action"] for moment in moments])})
    shown, there = dream.step({"action": [0, 0]}), video[:, -1] / 255
    errors = [[float((one - other).square().mean()) for other in there] for one in shown]
    assert max(errors[0][0], errors[1][1]) < 0.01 < min(errors[0][1], errors[1][0])
