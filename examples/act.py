"""A trained agent acts in its real environment.

    python examples/act.py runs/imagination doorkey5 --episodes 10
"""

import argparse

import numpy as np

import wakedream as wd
from wakedream.environments.registry import environment

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("agent", help="a run folder, or crafter-small")
parser.add_argument("env", help="crafter, doorkey5, ... or a Gymnasium id")
parser.add_argument("--episodes", type=int, default=10)
options = parser.parse_args()

agent = wd.Agent.from_pretrained(options.agent)
env = environment(options.env).make(agent.tokenizer.config.frame_size)
player = agent.player_in(env.action_space)
for episode in range(options.episodes):
    frame, _ = env.reset(seed=episode)
    player.reset(np.array([True]))
    total, over = 0.0, False
    while not over:
        (action,) = player.act(frame[None])
        frame, reward, terminated, truncated, _ = env.step(action)
        total, over = total + float(reward), terminated or truncated
    print(f"episode {episode}: return {total:.2f}")
