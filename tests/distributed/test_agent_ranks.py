"""Two processes train one agent, in both of its stages; in some of its steps a part of it learns nothing."""


import agent_ranks
import pytest
import torch
from safetensors.torch import load_file
from stages.test_agent_stages import write_world
from test_ranks import of, saved, start

from wakedream.data.store import Store
from wakedream.errors import ConfigError
from wakedream.runs import log_lines
from wakedream.stages.agent import AgentStage
from wakedream.stages.imagination import ImaginationStage
from wakedream.training.distributed import Place


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    out = tmp_path_factory.mktemp("agents")
    write_world(out)
    codes, said = start(out, script=agent_ranks.__file__)
    assert codes == [0, 0], "\n".join(said)
    return out


@pytest.mark.parametrize(("name", "folder"), [("cloned", "agent"), ("practised", "practised")])
def test_both_ranks_have_trained_the_same_agent(out, name, folder) -> None:
    trained = of(out, name)
    weights = load_file(out / folder / "checkpoints" / "step_00000004" / "model" / "model.safetensors")
    averages = {name[4:]: tensor for name, tensor in trained.items() if name.startswith("ema.")}
    assert averages and all(torch.equal(weights[name], averages[name]) for name in averages)


def test_an_agent_is_not_split(out) -> None:
    for stage, run in ((AgentStage, agent_ranks.agent_run), (ImaginationStage, agent_ranks.imagination_run)):
        with pytest.raises(ConfigError, match="--train.parallel fsdp .* expected ddp"):
            stage(run(out, parallel="fsdp"), Store.open(out / "data"), Place(torch.device("cpu"), 0, 2, 2))


def test_the_policy_learns_once_the_value_has_begun(out) -> None:
    """And its optimizer has counted as in one process."""
    steps = [line for line in log_lines(out / "practised" / "metrics.jsonl") if line["kind"] == "train"]
    assert ["actor" in line for line in steps] == [False, True, True, True]
    counted = [int(tensor) for name, tensor in saved(out / "practised").items() if name.endswith(".step")]
    assert sorted(set(counted)) == [12, 16]  # updates, four a step
