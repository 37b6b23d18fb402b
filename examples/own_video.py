"""Your own video: a tokenizer, a dynamics model without actions, and a dream beside the truth.

    python examples/own_video.py holiday.mp4 --out runs/holiday --minutes 5
"""

import argparse
import subprocess
import sys
from pathlib import Path


def wakedream(*words: object) -> None:
    subprocess.run([sys.executable, "-m", "wakedream", *map(str, words)], check=True)


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("videos", nargs="+", type=Path, help="files or folders")
parser.add_argument("--out", type=Path, default=Path("runs/own-video"))
parser.add_argument("--size", default="64", help="pixels, or height x width")
parser.add_argument("--minutes", type=float, default=5.0, help="for each of the two trainings")
options = parser.parse_args()

data, tokenizer, dynamics = (options.out / name for name in ("data", "tokenizer", "dynamics"))
wakedream("ingest", *options.videos, "--out", data, "--size", options.size)
wakedream("train", "tokenizer", "auto", "--data", data, "--out", tokenizer, "--train.minutes", options.minutes)
wakedream("train", "dynamics", "auto", "--data", data, "--tokenizer", tokenizer, "--out", dynamics,
          "--train.minutes", options.minutes)
wakedream("dream", dynamics, "--data", data, "--out", options.out / "dream.mp4")
