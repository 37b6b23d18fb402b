"""Every script in examples/ runs as its docstring says, on little data and for moments."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from agent.conftest import known  # noqa: F401
from PIL import Image

from wakedream.agent.agent import AgentModel
from wakedream.world.policy import Agent

pytestmark = pytest.mark.slow
EXAMPLES = Path(__file__).parents[2] / "examples"


def run(name, *words, folder):
    done = subprocess.run([sys.executable, EXAMPLES / name, *map(str, words)], cwd=folder, text=True, timeout=600,
                          capture_output=True,
                          env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])})
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def agent(known, tmp_path_factory):  # noqa: F811
    folder = tmp_path_factory.mktemp("agent") / "agent"
    made = Agent(known[1], AgentModel.from_pretrained(known[3]))
    made.save_pretrained(folder)
    made.world.save_pretrained(folder.parent / "world")
    return folder


def test_all_examples_are_named_and_tested():
    listed = set(re.findall(r"`(\w+\.py)", (EXAMPLES / "README.md").read_text()))
    tested = set(re.findall(r'run\("(\w+\.py)"', Path(__file__).read_text()))
    assert listed == tested == {path.name for path in EXAMPLES.glob("*.py")}


def test_own_video(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "film").mkdir()
    for number in range(80):
        picture = rng.integers(0, 60, (32, 32, 3), dtype=np.uint8)
        picture[8:16, number % 24:number % 24 + 8] = 220
        Image.fromarray(picture).save(tmp_path / "film" / f"{number:04}.png")
    run("own_video.py", "film", "--out", "runs", "--size", 32, "--minutes", 0.05, folder=tmp_path)
    assert (tmp_path / "runs" / "dream.mp4").stat().st_size > 0


def test_own_env(tmp_path):
    told = run("own_env.py", "CartPole-v1", "--frames", 400, "--size", 32, "--minutes", 0.05, "--out", "runs",
               folder=tmp_path)
    assert "wakedream play runs/dynamics --data runs/data" in told and (tmp_path / "runs" / "dynamics").exists()


def test_act(agent, tmp_path):
    told = run("act.py", agent, "agent.known_world:Known-v0", "--episodes", 3, folder=tmp_path)
    assert len(re.findall(r"episode \d: return -?\d", told)) == 3


def test_ppo_in_dream(agent, known, tmp_path):  # noqa: F811
    pytest.importorskip("stable_baselines3")
    told = run("ppo_in_dream.py", agent, known[0].path, "agent.known_world:Known-v0", "--steps", 128, "--rollout", 64,
               "--episodes", 3, folder=tmp_path)
    assert len(re.findall(r"(before|after) 128 dreamed steps: -?\d", told)) == 2


def test_edit_dream(agent, known, tmp_path):  # noqa: F811
    run("edit_dream.py", agent.parent / "world", known[0].path, "--context", 4, "--frames", 5, folder=tmp_path)
    assert Image.open(tmp_path / "edited.png").size == (2 * 16 * 6, 2 * 2 * 16)
