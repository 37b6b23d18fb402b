"""What two processes with a GPU each do for test_recorded.py: RANK and WORLD_SIZE are set; the argument is a folder."""

import sys
from pathlib import Path
from unittest import mock

import ranks
from safetensors.torch import save_file

from wakedream.training.distributed import Place, join
from wakedream.training.stepper import DDP_WARM_UP, Stepper

STEPS = DDP_WARM_UP + 8

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    with join("cuda") as here:
        ways = {"one": (Place(here.device), {"compile": "off"}), "launched": (here, {"compile": "off"}),
                "recorded": (here, {"compile": "on"}), "in_parts": (here, {"compile": "on", "accumulate": 2}),
                "parts_launched": (here, {"compile": "off", "accumulate": 2})}
        for name, (place, changes) in ways.items():
            with mock.patch.object(Stepper, "_record", autospec=True, side_effect=Stepper._record) as recorded:
                state = ranks.train(folder / f"{name}.{here.rank if place is not here else 'all'}", place, steps=STEPS,
                                    evaluate_every=100, save_every=100, **changes)
            assert recorded.call_count == 2 * (changes["compile"] == "on"), (name, recorded.call_count)
            save_file(ranks.everything(state), folder / f"{name}.{here.rank}.safetensors")
        (folder / f"done.{here.rank}").touch()
