"""Another library's PPO learns in the dream, from its pictures alone, and is tried in the real environment.

    python examples/ppo_in_dream.py runs/agent data/doorkey5 doorkey5 --steps 50000
"""

import argparse

import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

import wakedream as wd
from wakedream.environments.registry import environment

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("agent", help="a run folder: its heads say what is rewarded and where an episode ends")
parser.add_argument("data", help="where dreams begin")
parser.add_argument("env", help="the real environment")
parser.add_argument("--steps", type=int, default=50_000, help="in the dream")
parser.add_argument("--rollout", type=int, default=256, help="steps between updates")
parser.add_argument("--context", type=int, default=1, help="frames of the data set before a dream begins")
parser.add_argument("--episodes", type=int, default=50, help="in the real environment, before and after")
options = parser.parse_args()

agent = wd.Agent.from_pretrained(options.agent)
dream = wd.DreamEnv(agent, data=options.data, context=options.context, max_steps=100)
real = make_vec_env(lambda: environment(options.env).make(agent.tokenizer.config.frame_size))
small = min(agent.tokenizer.config.frame_size) < 36  # too small for the library's convolutions
player = PPO("MlpPolicy" if small else "CnnPolicy", dream, n_steps=options.rollout, batch_size=64, seed=0,
             policy_kwargs={"normalize_images": True}, verbose=0)
for when in ("before", "after"):
    if when == "after":
        player.learn(options.steps)
    returns, _ = evaluate_policy(player, real, options.episodes, deterministic=False, return_episode_rewards=True)
    spread = 1.96 * np.std(returns) / np.sqrt(len(returns))
    print(f"{when} {options.steps:,} dreamed steps: {np.mean(returns):.2f} +- {spread:.2f} of {len(returns)} episodes")
