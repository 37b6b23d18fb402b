"""`wakedream inspect` says whose latents these are, and finds damage."""

import shutil

import pytest
import torch
from numbered import NAME, make_latents, make_numbered
from safetensors.torch import load_file, save_file

from wakedream import cli
from wakedream.data.config import InspectConfig
from wakedream.data.manifest import shard_path
from wakedream.dynamics import latents
from wakedream.dynamics.inspect import inspect_latents
from wakedream.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("latents")
    return make_latents(make_numbered(path / "d", [30, 5, 40, 50], shard_frames=60), path / "l").path


def test_a_folder_of_latents_says_what_it_is(folder, capsys) -> None:
    cli.inspect(InspectConfig(str(folder)))
    said = capsys.readouterr().out
    for part in (str(folder), "125 in 4 episodes, each 1x2", NAME[:16], latents.LatentStore.open(folder).data[:16],
                 "shards whole"):
        assert part in said
    assert cli.LATENTS == latents.FILE


def test_damage_in_any_shard_is_found(folder, tmp_path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    path = shard_path(copy, 1)
    tensors, source = load_file(path), latents.read_source(path)
    broken = tensors["latents"].index_fill(0, torch.tensor([3]), float("inf"))
    latents.write_latents(path, broken, tensors["alone"], source)
    with pytest.raises(DataError, match="not finite, first at frame"):
        inspect_latents(InspectConfig(str(copy)))
    save_file({**tensors, "alone": tensors["alone"] + 1}, path)
    with pytest.raises(DataError, match="damaged"):
        inspect_latents(InspectConfig(str(copy)))
    with pytest.raises(ConfigError, match="--repair and --sheet are for data sets"):
        inspect_latents(InspectConfig(str(folder), repair=True))
