"""The ceiling of practice in the dream: the same objective, its rollouts played in the true environment.

    python benchmarks/simulator.py demo --env doorkey5 --data runs/agent/data --agent runs/agent/agent \\
        --out runs/agent/simulator --minutes 3
    wakedream evaluate runs/agent/simulator --data runs/agent/data --against runs/agent/imagination runs/agent/agent

Policy, value, returns and PMPO are those of the imagination preset; frames, rewards and ends are the environment's. A
rollout goes on where the last one stopped; after an end, by time too, nothing counts until the next rollout, which
begins with a new episode there.
"""

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wakedream.agent.batches import Contexts
from wakedream.agent.imagination import ImaginationObjective, Rollout, Seen
from wakedream.data.actions import action_of
from wakedream.environments.registry import environment
from wakedream.presets.agent import imagination_preset
from wakedream.stages.checks import Perception
from wakedream.stages.imagination import ImaginationStage
from wakedream.stages.skeleton import train_stage
from wakedream.world.policy import Agent


class Playing:
    """`rows` environments side by side, and the agent that plays them."""

    def __init__(self, env: str, agent: Agent, rows: int, seed: int):
        self.envs = [environment(env).make(agent.tokenizer.config.frame_size) for _ in range(rows)]
        self.player, self.seed, self.begun = agent.player(rows, seed=seed), seed, 0
        self.frames = [np.zeros(0)] * rows
        self.ended = np.ones(rows, bool)

    def rollout(self, horizon: int) -> Seen:
        """Its last step, which leads out of it, does not count."""
        self._begin()
        hidden, actions, rewards, goes_on = [], [], [], []
        for _ in range(horizon + 1):
            seen = np.stack(self.frames).transpose(0, 3, 1, 2)
            hidden.append(self.player.look(torch.from_numpy(np.ascontiguousarray(seen))))
            actions.append(self.player.take(hidden[-1]))
            gained = [self._step(row, actions[-1]) for row in range(len(self.envs))]
            rewards.append(torch.tensor(gained, dtype=torch.float32))
            goes_on.append(torch.from_numpy(~self.ended).float())
        device = hidden[0].device
        read = torch.stack(hidden, dim=1)
        taken = {name: torch.stack([one[name] for one in actions[:-1]], 1).to(device) for name in actions[0]}
        made = Rollout(read, taken, read.new_zeros(len(read), horizon, 0, 0))
        return made, torch.stack(rewards[:-1], 1).to(device), torch.stack(goes_on[:-1], 1).to(device)

    def _begin(self) -> None:
        """New episodes where there was an end."""
        self.player.reset(torch.from_numpy(self.ended))
        for row in np.flatnonzero(self.ended).tolist():
            world = int(np.random.SeedSequence([self.seed, self.begun]).generate_state(1)[0] >> 1)
            self.frames[row], _ = self.envs[row].reset(seed=world)
            self.begun += 1
        self.ended[:] = False

    def _step(self, row: int, actions: dict[str, Any]) -> float:
        if self.ended[row]:
            return 0.0
        env = self.envs[row]
        action = action_of(env.action_space, {name: value[row].numpy() for name, value in actions.items()})
        self.frames[row], reward, terminated, truncated, _ = env.step(action)
        self.ended[row] = terminated or truncated
        return float(reward)


class InTheWorld(ImaginationObjective):
    playing: Playing

    def _roll(self, contexts: Contexts) -> Seen:
        return self.playing.rollout(self.config.horizon)


class SimulatorStage(ImaginationStage):
    def __init__(self, *given: Any, env: str):
        super().__init__(*given)
        self.env = env

    def objective(self, model: Any, perception: Perception) -> InTheWorld:
        loader = self.run.loader
        made = InTheWorld(model, self.run.objective, loader.batch_size, loader.num_starts, self.place.mean)
        agent = Agent(self.tokenizer, model.to(self.place.device))
        made.playing = Playing(self.env, agent, loader.batch_size, self.run.train.seed)
        return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preset", help="of imagination")
    parser.add_argument("--env", required=True)
    for name in ("data", "agent", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    preset = imagination_preset(options.preset)
    run = replace(preset, agent=str(options.agent), train=replace(preset.train, minutes=options.minutes,
                                                                  seed=options.seed))
    train_stage(partial(SimulatorStage, env=options.env), run, options.data, options.out, options.preset)


if __name__ == "__main__":
    main()
