"""What an agent's heads say of held-out play, read as practice reads them, beside what came."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from wakedream.agent.agent import TOKENS, AgentModel
from wakedream.agent.imagination import Imagining
from wakedream.agent.relevance import REWARD
from wakedream.agent.tasks import under
from wakedream.data.store import Store
from wakedream.data.trajectory import stacked
from wakedream.dynamics.clip import LatentClip
from wakedream.evaluation.dynamics.windows import columns_at, evenly, lasting

EPISODES, FRAMES = 64, 64  # the last frames of so many: there are the ends
PART = 0.1  # of a reward: more than that is said in vain where there is none


def last_frames(store: Store, latents: Callable[[int, int, int], Tensor]) -> LatentClip:
    """Of held-out episodes, spread over all of them; what is beyond an end is unknown there.

    latents: of an episode by its number, frames start to stop - 1, (t l e)."""
    episodes = store.split(store.judging_split)
    chosen = [episodes[index] for index in evenly(len(episodes), EPISODES).tolist()]
    length = min(FRAMES, max(info.frames for info in chosen))
    rows, columns = [], []
    for info in chosen:
        start = max(0, info.frames - length)
        rows.append(lasting(latents(info.id, start, info.frames).numpy(force=True), length))
        columns.append(columns_at(store, info.id, start, info.frames - start, length))
    return LatentClip(torch.from_numpy(np.stack(rows)), stacked(columns), torch.zeros(len(rows), length,
                                                                                      dtype=torch.int64))


def answers(agent: AgentModel, store: Store) -> bool:
    """Whether its heads can be asked on this data set: one with its actions, and the events of its tasks."""
    given = {name for info in store.episodes for name in info.events}
    return store.spec == agent.dynamics.actions and set(agent.config.tasks) - {REWARD} <= given


@torch.no_grad()
def heads_on(agent: AgentModel, clip: LatentClip) -> dict[str, float]:
    """`heads_beside` of the agent's first task, every frame at its commit."""
    task = torch.zeros_like(clip.segments)
    engine = Imagining(agent, len(task)).engine
    engine.tell({TOKENS: agent.tokens_of(task[:, 0].to(engine.device))})
    seen = under(clip.trajectory, agent.config.tasks, task).to(engine.device)
    hidden = agent.pooled(engine.observe(clip.latents, seen))
    return heads_beside(agent.reward_at(hidden), agent.goes_on_at(hidden), seen.rewards,
                        seen.has_reward & seen.has_action, seen.terminated, seen.has_action)


def heads_beside(said: Float[Tensor, "b t"], goes_on: Float[Tensor, "b t"], rewards: Float[Tensor, "b t"],
                 known: Bool[Tensor, "b t"], ended: Bool[Tensor, "b t"],
                 real: Bool[Tensor, "b t"]) -> dict[str, float]:
    """Means; what there is nothing of is left out.

    rewards, reward_true, reward_said     how many, what they were and what was said of them
    reward_elsewhere, reward_in_vain      where there was none: what was said, as a magnitude, and the share of the
                                          frames with more than a tenth of a reward
    ends, end_goes_on, goes_on            how many, and how likely it was said to go on there, and elsewhere
    """
    there, none = known & (rewards != 0), known & (rewards == 0)
    over, on = real & ended, real & ~ended
    found = {"rewards": float(there.sum()), "ends": float(over.sum())}
    if there.any():
        found |= {"reward_true": float(rewards[there].mean()), "reward_said": float(said[there].mean())}
        if none.any():
            in_vain = said[none].abs() > PART * rewards[there].abs().mean()
            found["reward_in_vain"] = float(in_vain.float().mean())
    if none.any():
        found["reward_elsewhere"] = float(said[none].abs().mean())
    if over.any():
        found["end_goes_on"] = float(goes_on[over].mean())
    if on.any():
        found["goes_on"] = float(goes_on[on].mean())
    return found


def in_words(found: Mapping[str, float]) -> list[str]:
    """One sentence each of rewards and of ends."""
    words = []
    if found.get("rewards"):
        words.append(f"{found['rewards']:.0f} rewards, {found['reward_true']:.3g} on average, are said to be "
                     f"{found['reward_said']:.3g}")
        if "reward_elsewhere" in found:
            words[-1] += (f"; elsewhere {found['reward_elsewhere']:.2g} a frame is said, in "
                          f"{found['reward_in_vain']:.2%} of the frames more than a tenth of a reward")
    if found.get("ends"):
        words.append(f"at {found['ends']:.0f} ends it is said to go on with {found['end_goes_on']:.1%}"
                     + (f", elsewhere with {found['goes_on']:.1%}" if "goes_on" in found else ""))
    return words
