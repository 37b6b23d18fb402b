"""What a claim about practice in the dream is held against.

    python benchmarks/controls.py shuffle data/doorkey data/doorkey-shuffled
    python benchmarks/controls.py dream runs/imagination --data data/doorkey --report runs/report/metrics.json

shuffle: the data set with its rewards permuted among episodes. An agent that is cloned from it learns a reward that has
nothing to do with what is seen; practice for that must not gain.

dream: what each policy of a report (its label says where its weights are: a run, a checkpoint's weights folder) gets in
the dream of the first run, from first frames of the data set's episodes, as that run's own heads see it; beside what it
got in the real environment, and the rank correlation of both. All must have that run's dynamics model.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wakedream.agent.agent import AgentModel
from wakedream.agent.batches import ContextBatches
from wakedream.agent.config import ContextConfig
from wakedream.agent.imagination import Imagining
from wakedream.agent.returns import reached
from wakedream.data.episode import Episode
from wakedream.data.store import Store
from wakedream.data.writer import StoreWriter
from wakedream.device import pick_device
from wakedream.evaluation.agent.intervals import mean, rank_correlation
from wakedream.stages.agent import latents_of
from wakedream.stages.dynamics import encoded
from wakedream.tokenizer.tokenizer import Tokenizer
from wakedream.training.distributed import Place
from wakedream.world.model import tokenizer_of


def shuffle(options: argparse.Namespace) -> None:
    """An episode gets the rewards of another one, from their starts; what came after its own end comes
    with its last frame."""
    store, rng = Store.open(options.data), np.random.default_rng(options.seed)
    header = store.manifest.header
    order = rng.permutation(len(store.episodes))
    writer = StoreWriter(options.out, store.spec, frame_shape=store.frame_shape, held_out=header.held_out,
                         info={**header.info, "rewards": "shuffled"})
    with writer:
        for info, other in zip(store.episodes, order, strict=True):
            episode: Episode = store.read(info.id)
            given = store.columns(store.episodes[other].id)
            episode.rewards = np.zeros_like(episode.rewards)
            at = np.minimum(np.arange(len(given["rewards"])), len(episode.rewards) - 1)
            np.add.at(episode.rewards, at, given["rewards"])
            episode.rewards[~episode.has_reward] = 0
            writer.add(episode)


@torch.no_grad()
def dream(options: argparse.Namespace) -> None:
    device, store = pick_device("auto"), Store.open(options.data)
    agent = AgentModel.from_pretrained(options.run).to(device)
    tokenizer = Tokenizer.from_pretrained(tokenizer_of(options.run)).to(device)
    latents = encoded(store, tokenizer, latents_of(options.run, store, tokenizer), Place(device))
    config = ContextConfig(batch_size=options.rollouts, length=1, starts=1.0)
    with ContextBatches(store, latents, config, agent.config.tasks, seed=options.seed, device=device) as batches:
        contexts = next(batches)
    imagining = Imagining(agent, options.rollouts, sampling_steps=options.sampling_steps)
    report = json.loads(options.report.read_text())
    primary, rows = report["primary"], list[dict[str, Any]]()
    roots = (Path(), options.run / "checkpoints", *options.run.parents)
    for row in report["rows"]:
        label = row["policy"].removesuffix(", greedy")
        path = next((root / label for root in roots if (root / label).exists()), None)
        if path is None:
            continue
        other = AgentModel.from_pretrained(path).to(device)
        same = all(torch.equal(a, b) for a, b in zip(agent.dynamics.parameters(), other.dynamics.parameters(),
                                                     strict=True))
        if not same:
            continue
        rollout = imagining.rollout(contexts, options.rollouts, options.horizon, other.policy,
                                    greedy=label != row["policy"])
        arrived = rollout.hidden[:, 1:]
        alive = reached(agent.goes_on_at(arrived))[:, :-1]
        gained = mean((agent.reward_at(arrived) * alive).sum(1).double().cpu().numpy())
        rows.append({"policy": row["policy"], "dreamed": gained.to_json(), "real": row["measures"][primary]})
        print(json.dumps(rows[-1]), flush=True)
    both = np.array([[row["dreamed"]["value"], row["real"]["value"]] for row in rows])
    found = {"run": str(options.run), "horizon": options.horizon, "rollouts": options.rollouts, "primary": primary,
             "policies": rows, "rank_correlation": rank_correlation(*both.T) if len(rows) > 1 else None}
    print(f"rank correlation over {len(rows)} policies: {found['rank_correlation']}")
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("shuffle")
    one.add_argument("data", type=Path)
    one.add_argument("out", type=Path)
    one.set_defaults(command=shuffle)
    two = commands.add_parser("dream")
    two.add_argument("run", type=Path)
    two.add_argument("--data", type=Path, required=True)
    two.add_argument("--report", type=Path, required=True, help="metrics.json of `wakedream evaluate` of agents")
    two.add_argument("--out", type=Path)
    two.add_argument("--rollouts", type=int, default=256)
    two.add_argument("--horizon", type=int, default=100)
    two.add_argument("--sampling-steps", type=int, default=4)
    two.set_defaults(command=dream)
    for command in (one, two):
        command.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.command(options)


if __name__ == "__main__":
    main()
