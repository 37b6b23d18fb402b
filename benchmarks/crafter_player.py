"""What the scripted player of Crafter achieves: return, score (Hafner, 2021, equation 1), success by achievement.

    python benchmarks/crafter_player.py --episodes 16 --length 10000 --epsilon 0
"""

import argparse
import time

import numpy as np

from wakedream.environments.crafter.env import CrafterEnv
from wakedream.environments.crafter.noise import NoisyPlayer


def play(env: CrafterEnv, seed: int, epsilon: float) -> tuple[int, float, dict[str, int]]:
    """Steps, return and achievements of one episode."""
    frame, info = env.reset(seed=seed)
    player = NoisyPlayer(env.simulator, np.random.default_rng(seed), epsilon)
    steps, total, over = 0, 0.0, False
    while not over:
        frame, reward, terminated, truncated, info = env.step(player(frame))
        steps, total, over = steps + 1, total + reward, terminated or truncated
    return steps, total, info["achievements"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=16)
    parser.add_argument("--length", type=int, default=10_000, help="time limit in steps")
    parser.add_argument("--epsilon", type=float, default=0.0, help="share of random steps; 1: all")
    options = parser.parse_args()
    env, started = CrafterEnv(length=options.length), time.monotonic()
    episodes = [play(env, seed, options.epsilon) for seed in range(options.episodes)]
    seconds = time.monotonic() - started
    steps, returns, achievements = zip(*episodes, strict=True)
    success = {name: np.mean([counts[name] > 0 for counts in achievements]) for name in achievements[0]}
    score = np.exp(np.mean([np.log(1 + 100 * share) for share in success.values()])) - 1
    print(f"{len(steps)} episodes, {np.mean(steps):.0f} steps each, {sum(steps) / seconds:.0f} steps/s")
    print(f"return {np.mean(returns):.1f} (std {np.std(returns):.1f}), score {score:.1f} %")
    for name, share in sorted(success.items(), key=lambda item: -item[1]):
        print(f"  {name:20s}{share:7.0%}")


if __name__ == "__main__":
    main()
