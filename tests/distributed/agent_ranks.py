"""What two processes do for test_agent_ranks.py, with RANK and WORLD_SIZE set; the argument is a folder."""

import sys
from pathlib import Path

import ranks
import torch
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).parent.parent))
from stages.test_agent_stages import agent_run, imagination_run

from wakedream.stages import skeleton
from wakedream.stages.agent import train_agent
from wakedream.stages.imagination import train_imagination
from wakedream.training.distributed import join

if __name__ == "__main__":
    torch.set_num_threads(1)
    folder, states, fit = Path(sys.argv[1]), [], skeleton.fit
    with join("cpu") as here:
        skeleton.join = lambda device: ranks.join_again(here)
        skeleton.fit = lambda *given, **options: states.append(fit(*given, **options)) or states[-1]
        train_agent(agent_run(folder), folder / "data", folder / "agent", "debug")
        train_imagination(imagination_run(folder), folder / "data", folder / "practised", "debug")
        for name, state in zip(("cloned", "practised"), states, strict=True):
            save_file(ranks.everything(state), folder / f"{name}.{here.rank}.safetensors")
        (folder / f"done.{here.rank}").touch()
