"""Two processes train one dynamics model: every process draws its own noise, and all of them make the same step."""

import shutil
from pathlib import Path

import dynamics_ranks
import pytest
import ranks
import torch
from safetensors.torch import load_file
from stages.conftest import small_dynamics, write_played, write_tokenizer
from test_ranks import ALONE, PARALLEL, of, same, saved, start

from wakedream.runs import log_lines
from wakedream.stages.dynamics import train_dynamics
from wakedream.training.distributed import Place
from wakedream.world.model import World


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("dynamics")
    write_played(out / "data")
    write_tokenizer(out / "tokenizer")
    codes, said = start(out, script=dynamics_ranks.__file__)
    assert codes == [0, 0], "\n".join(said)
    return out


@PARALLEL
@pytest.mark.parametrize("phase", dynamics_ranks.PHASES)
def test_gradients_are_those_of_one_rank_with_twice_the_batch(out, parallel, phase) -> None:
    """Under the same noise."""
    expected = dynamics_ranks.gradients(ALONE, phase)
    assert min(gradient.abs().max() for gradient in expected.values()) > 1e-3
    same(of(out, f"{parallel}_{phase}"), expected, 2e-6)
    same(of(out, f"{parallel}_{phase}_recomputed"), expected, 2e-6)


def test_every_rank_draws_its_own_noise_and_the_gradient_is_the_mean(out) -> None:
    """`of` finds that both have the same gradients."""
    alone = []
    for rank in range(2):
        torch.manual_seed(10 + rank)
        objective = dynamics_ranks.made()
        objective.prepare(dynamics_ranks.PHASES["bootstrap"])
        torch.manual_seed(10 + rank)
        sum(objective(dynamics_ranks.clip(Place(torch.device("cpu"), rank, 2))).values()).backward()
        alone.append({name: weight.grad for name, weight in objective.model.named_parameters()})
    found = of(out, "ddp_own_noise")
    same(found, {name: (gradient + alone[1][name]) / 2 for name, gradient in alone[0].items()}, 2e-6)
    assert any((gradient - alone[1][name]).abs().max() > 1e-2 for name, gradient in alone[0].items())
    generators = [saved(out / "real_ddp")[f"processes.{rank}.generators.torch"] for rank in range(2)]
    assert not torch.equal(*generators)  # so it is in stage 2


@PARALLEL
def test_both_ranks_have_trained_the_same_model(out, parallel) -> None:
    trained = of(out, parallel)
    weights = load_file(out / f"real_{parallel}" / "checkpoints" / "step_00000004" / "model" / "model.safetensors")
    averages = {name[4:]: tensor for name, tensor in trained.items() if name.startswith("ema.")}
    assert averages
    assert all(torch.equal(weights[name], averages[name]) for name in averages)


def test_sharded_steps_are_those_of_whole_models(out) -> None:
    """Those with bootstrap rows too, which the averaged model teaches, whole or in parts."""
    runs = [log_lines(out / f"real_{parallel}" / "metrics.jsonl") for parallel in ranks.PARALLEL]
    for ours, theirs in zip(*runs, strict=True):
        for name in ours.keys() & {"flow", "bootstrap", "grad_norm", "psnr", "step"}:
            assert ours[name] == pytest.approx(theirs[name], rel=2e-3), (name, ours["step"])
    for lines in runs:
        assert [line["step"] for line in lines if "bootstrap" in line] == [3, 4]
        assert (lines[-1]["kind"], lines[-1]["step"]) == ("held_out", 4)


def test_a_sharded_run_dreams_and_goes_on_alone(out, tmp_path, capsys) -> None:
    run = tmp_path / "run"
    shutil.copytree(out / "real_fsdp", run)
    dream = World.from_pretrained(run).dream(torch.rand(1, 3, 3, 16, 16))
    assert dream.step({"move": torch.tensor([2])}).isfinite().all()
    train_dynamics(small_dynamics(out / "tokenizer", steps=6), out / "data", run, "debug")
    assert "saved by 2 processes, going on with 1" in capsys.readouterr().err
    steps = [line["step"] for line in log_lines(run / "metrics.jsonl") if line["kind"] == "train"]
    assert steps == [1, 2, 3, 4, 5, 6]
