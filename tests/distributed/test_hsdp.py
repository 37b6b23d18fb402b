"""Eight processes, four on each of two hosts: a model split within a host, a copy on each; steps as of one process."""

from pathlib import Path

import hsdp_ranks
import pytest
import ranks
import torch
from safetensors.torch import load_file
from test_ranks import ALONE, of, same, saved, start

from wakedream.errors import ConfigError
from wakedream.training.distributed import Place, copies_of


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("hsdp")
    codes, said = start(out, script=hsdp_ranks.__file__, count=8, on_host=4)
    assert codes == [0] * 8, "\n".join(said)
    return out


@pytest.mark.slow
def test_gradients_and_steps_are_those_of_one_process(out, tmp_path) -> None:
    same(of(out, "gradients", 8), ranks.gradients(ALONE), 1e-6)
    same(of(out, "steps", 8), ranks.everything(ranks.train(tmp_path / "one", ALONE)), 1e-5)


@pytest.mark.slow
def test_it_goes_on_bit_for_bit(out) -> None:
    same(of(out, "parts", 8), of(out, "whole", 8))


@pytest.mark.slow
def test_the_first_host_s_processes_write_a_quarter_each(out) -> None:
    folder = out / "steps" / "checkpoints" / "step_00000004"
    files = sorted(folder.glob("state-*"))
    assert [file.name for file in files] == [f"state-0000{part}-of-00004.safetensors" for part in range(1, 5)]
    name = "objective.model.body.layers.0.up.weight"
    assert [len(load_file(file)[name]) for file in files] == [3, 3, 3, 0]
    assert not list(folder.parent.glob(".*"))
    tensors = saved(out / "steps")
    for key, tensor in of(out, "steps", 8).items():
        kind, rest = key.split(".", 1)
        entries = {"model": f"objective.model.{rest}", "ema": key, "optimizer": f"optimizers.{rest}"}
        assert torch.equal(tensors[entries[kind]], tensor), key


@pytest.mark.slow
def test_one_process_goes_on_from_it(out, tmp_path) -> None:
    (out / "steps").rename(tmp_path / "steps")
    ours = ranks.everything(ranks.train(tmp_path / "steps", ALONE, steps=6))
    same(ours, ranks.everything(ranks.train(tmp_path / "one", ALONE, steps=6)), 1e-5)


def test_hosts_that_differ_are_refused() -> None:
    config = ranks.config(parallel="hsdp")
    assert copies_of(config, Place(torch.device("cpu"), 0, 8, 4)) == 2
    with pytest.raises(ConfigError, match=r"equally many on each, ranks in a row, got .* at RANK 3 of 6"):
        copies_of(config, Place(torch.device("cpu"), 3, 6, 0))
