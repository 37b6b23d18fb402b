"""A frame of a dream is painted over by hand, and the dream goes on from there: beside it, as it would have gone.

    python examples/edit_dream.py runs/dynamics data/crafter --out edited.png
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import wakedream as wd
from wakedream.world.starts import Starts

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("world", help="a dynamics model's run, or crafter-small")
parser.add_argument("data", help="where the dream begins")
parser.add_argument("--out", type=Path, default=Path("edited.png"))
parser.add_argument("--context", type=int, default=16)
parser.add_argument("--frames", type=int, default=12)
parser.add_argument("--seed", type=int, default=0)
options = parser.parse_args()

world = wd.World.from_pretrained(options.world)
moment = Starts(world, options.data, options.context).draw(np.random.default_rng(options.seed))
video = torch.from_numpy(moment.video).permute(0, 3, 1, 2)[None].float() / 255
actions = {name: torch.from_numpy(value)[None] for name, value in moment.actions.items()}
dream = world.dream(video, actions, torch.from_numpy(moment.has_action)[None], seed=options.seed)

painted = dream.fork()
height, width = video.shape[-2:]
frame = video[0, -1].clone()
frame[:, height // 4:height // 2, width // 4:width // 2] = torch.tensor([1.0, 0.2, 0.2])[:len(frame), None, None]
painted.observe(frame[None, None])  # one more frame that "really happened"

rows = []
for one, first in ((dream, video[0, -1]), (painted, frame)):
    frames = [first, *(one.step()[0].cpu() for _ in range(options.frames))]
    rows.append(torch.cat(frames, dim=2))
picture = (torch.cat(rows, dim=1) * 255).round().byte().permute(1, 2, 0).numpy()
Image.fromarray(picture.repeat(2, 0).repeat(2, 1).squeeze()).save(options.out)
print(f"{options.out}: above the dream, below the one in which a square was painted; {options.frames} frames each")
