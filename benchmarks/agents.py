"""The whole loop in one world, with its controls: from recorded play to a table of policies in the real environment.

    python benchmarks/agents.py doorkey --out runs/doorkey --frames 120000 --policy scripted:0.6,random:0.4 \\
        --minutes 0.6 2 1.3 3 --dynamics --objective.bootstrap-from 800
    python benchmarks/agents.py crafter --out runs/crafter --frames 300000 \\
        --policy scripted:0.6,specialist:0.25,random:0.15 --minutes 1.5 4 3 4 \\
        --relevant events --primary events --episodes 500 --gpus 0 1

Records, trains the four stages (minutes of each), and beside them, each by the commands of the package:

    shuffled    cloned and improved on the same play with the rewards permuted among episodes: must not gain
    best        cloned on the best quarter of the episodes
    scratch     cloned without a world model: the same network, untrained, no video loss
    again       cloned and improved with another seed

Then judges all in the same worlds (OUT/report), asks the dream what it expected of the run's checkpoints
(OUT/dream.json), and measures dreams before and after cloning (OUT/dreams-before, OUT/dreams-after). What follows
--record, --tokenizer, --dynamics, --agent, --imagination, --judgement or --dream are further options of that command.
What was finished is not done again; a run that was stopped goes on.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gpus import add_option, environment, to_lend

CHECKPOINTS = 4  # of imagination to be judged, or a few more
CONTROLS = ("shuffled", "best", "scratch", "again")
HERE = Path(__file__).parent


class Loop:
    def __init__(self, options: argparse.Namespace):
        self.options, self.out = options, options.out
        self.gpus = to_lend(options.gpus)
        self.running: set[subprocess.Popen[bytes]] = set()
        self.began, self.stopped = time.perf_counter(), False
        self.out.mkdir(parents=True, exist_ok=True)

    def run(self, name: str, gpu: str, *words: object) -> None:
        """One command, unless it is done; its output goes to OUT/NAME.log."""
        done = self.out / f"{name}.done"
        if done.exists() or self.stopped:
            return
        with open(self.out / f"{name}.log", "a") as log:
            process = subprocess.Popen([sys.executable, *map(str, words)], env=environment(gpu), stdout=log, stderr=log)
            self.running.add(process)
            failed = process.wait()
            self.running.discard(process)
        print(f"{time.perf_counter() - self.began:.0f} s: {name} {'failed' if failed else 'done'}", flush=True)
        if failed:
            raise SystemExit((self.out / f"{name}.log").read_text()[-1500:])
        done.touch()

    def train(self, gpu: str, stage: str, name: str, data: str, minutes: float, *words: object) -> None:
        self.run(name, gpu, "-m", "wakedream", "train", stage, self.options.preset, "--data", self.out / data, "--out",
                 self.out / name, "--train.minutes", minutes, *words)

    def agent(self, gpu: str, name: str, data: str, world: str, *words: object, relevant: str = "") -> None:
        options = self.options
        self.train(gpu, "agent", name, data, options.minutes[2], "--world", self.out / world, "--loader.relevant",
                   relevant or options.relevant, *options.agent, *words)

    def imagination(self, gpu: str, name: str, data: str, agent: str, *words: object) -> None:
        options = self.options
        self.train(gpu, "imagination", name, data, options.minutes[3], "--agent", self.out / agent,
                   "--loader.relevant", options.relevant, *options.imagination, *words)

    def both(self, gpu: str, suffix: str, data: str, *words: object) -> None:
        self.agent(gpu, f"agent{suffix}", data, "dynamics", *words)
        self.imagination(gpu, f"imagination{suffix}", data, f"agent{suffix}", *words)

    def with_gpu(self, work: str) -> None:
        gpu = self.gpus.get()
        try:
            getattr(self, f"make_{work}")(gpu)
        finally:
            self.gpus.put(gpu)

    def make_world(self, gpu: str) -> None:
        options = self.options
        self.run("record", gpu, "-m", "wakedream", "record", options.env, "--out", self.out / "data", "--frames",
                 options.frames, "--policy", options.policy, "--processes", options.processes, "--seed", 1,
                 *options.record)
        self.train(gpu, "tokenizer", "tokenizer", "data", options.minutes[0], *options.tokenizer)
        self.train(gpu, "dynamics", "dynamics", "data", options.minutes[1], "--tokenizer", self.out / "tokenizer",
                   *options.dynamics)

    def make_agent(self, gpu: str) -> None:
        self.both(gpu, "", "data")

    def make_shuffled(self, gpu: str) -> None:
        self.run("shuffle", gpu, HERE / "controls.py", "shuffle", self.out / "data", self.out / "data-shuffled")
        self.both(gpu, "-shuffled", "data-shuffled")

    def make_again(self, gpu: str) -> None:
        self.both(gpu, "-again", "data", "--train.seed", 1)

    def make_best(self, gpu: str) -> None:
        self.agent(gpu, "agent-best", "data", "dynamics", relevant="best:0.25")

    def make_scratch(self, gpu: str) -> None:
        self.train(gpu, "dynamics", "untrained", "data", 1.0, "--tokenizer", self.out / "tokenizer",
                   *self.options.dynamics, "--train.steps", 1, "--train.compile", "off")
        self.agent(gpu, "agent-scratch", "data", "untrained", "--objective.video-weight", 0)

    def judge(self, gpu: str) -> None:
        options, out = self.options, self.out
        others = {"shuffled": ("agent-shuffled", "imagination-shuffled"), "best": ("agent-best",),
                  "scratch": ("agent-scratch",), "again": ("agent-again", "imagination-again")}
        against = [out / name for name in ("agent", *(name for one in options.controls for name in others[one]))]
        kept = sorted((out / "imagination" / "checkpoints").glob("step_*/model"))[:-1]
        kept = kept[::max(1, len(kept) // CHECKPOINTS)]
        self.run("judge", gpu, "-m", "wakedream", "evaluate", out / "imagination", "--data", out / "data", "--env",
                 options.env, "--out", out / "report", "--episodes", options.episodes, "--processes",
                 options.processes, "--num-envs", options.num_envs, "--primary", options.primary, "--policies",
                 *options.policies, "--against", *against, *kept, "--curve", 0, *options.judgement)
        self.run("dream", gpu, HERE / "controls.py", "dream", out / "imagination", "--data", out / "data", "--report",
                 out / "report" / "metrics.json", "--out", out / "dream.json", *options.dream)
        self.run("world", gpu, "-c", "import sys, wakedream as wd; wd.Agent.from_pretrained(sys.argv[1])."
                 "world.save_pretrained(sys.argv[2])", out / "agent", out / "world")
        for name, world in (("dreams-before", "dynamics"), ("dreams-after", "world")):
            self.run(name, gpu, "-m", "wakedream", "evaluate", out / world, "--data", out / "data", "--out", out / name,
                     "--no-videos", "--drift", 0)

    def stop(self, *_: object) -> None:
        """What trains saves, and ends."""
        self.stopped = True
        for process in list(self.running):
            process.terminate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("env")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--policy", default="scripted:0.6,random:0.4", help="players of the data")
    parser.add_argument("--preset", default="crafter", help="of all stages")
    parser.add_argument("--minutes", type=float, nargs=4, default=(1, 3, 2, 3), help="of each stage")
    parser.add_argument("--relevant", default="reward", help="as --loader.relevant of cloning and imagination")
    parser.add_argument("--controls", nargs="*", default=CONTROLS, choices=CONTROLS)
    parser.add_argument("--policies", nargs="*", default=("random", "scripted"), help="players to judge")
    parser.add_argument("--primary", default="return")
    parser.add_argument("--episodes", type=int, default=1000, help="of each policy; 0: nothing is judged")
    parser.add_argument("--num-envs", type=int, default=128)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    add_option(parser)
    given = sys.argv[1:]
    stages = ("record", "tokenizer", "dynamics", "agent", "imagination", "judgement", "dream")
    own = {name: [] for name in stages}  # further options of a command: after --NAME, up to the next of these
    at = [i for i, word in enumerate(given) if word.removeprefix("--") in stages and word.startswith("--")]
    for begin, end in zip(at, [*at, len(given)][1:], strict=True):
        own[given[begin].removeprefix("--")] = given[begin + 1:end]
    options = parser.parse_args(given[:at[0]] if at else given)
    loop = Loop(argparse.Namespace(**vars(options), **own))
    signal.signal(signal.SIGTERM, loop.stop)
    loop.with_gpu("world")
    with ThreadPoolExecutor(len(options.gpus)) as pool:
        list(pool.map(loop.with_gpu, ("agent", *options.controls)))
    if options.episodes:
        loop.judge(options.gpus[0])


if __name__ == "__main__":
    main()
