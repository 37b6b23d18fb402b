"""Your own environment: record it, train a world on it, play in the dream.

    python examples/own_env.py CartPole-v1 --frames 60000 --size 64 --minutes 5
    wakedream play runs/own-env/dynamics --data runs/own-env/data
"""

import argparse
import subprocess
import sys
from pathlib import Path


def wakedream(*words: object) -> None:
    subprocess.run([sys.executable, "-m", "wakedream", *map(str, words)], check=True)


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("env", help="crafter, coinrun, ... or a Gymnasium id: CartPole-v1, module:Id-v0")
parser.add_argument("--out", type=Path, default=Path("runs/own-env"))
parser.add_argument("--frames", type=int, default=60_000)
parser.add_argument("--size", default="64", help="pixels, or height x width")
parser.add_argument("--minutes", type=float, default=5.0, help="for each of the two trainings")
options = parser.parse_args()

data, tokenizer, dynamics = (options.out / name for name in ("data", "tokenizer", "dynamics"))
wakedream("record", options.env, "--out", data, "--frames", options.frames, "--size", options.size, "--processes", 2)
wakedream("train", "tokenizer", "auto", "--data", data, "--out", tokenizer, "--train.minutes", options.minutes)
wakedream("train", "dynamics", "auto", "--data", data, "--tokenizer", tokenizer, "--out", dynamics,
          "--train.minutes", options.minutes)
print(f"Now: wakedream play {dynamics} --data {data}")
