"""What an agent does in its dream from the first frames of real episodes on, and what its heads say of it."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from wakedream.agent.batches import Contexts
from wakedream.agent.imagination import Imagining
from wakedream.agent.tasks import numbers
from wakedream.data.trajectory import Trajectory
from wakedream.dynamics.clip import LatentClip
from wakedream.dynamics.noise import row_seeds
from wakedream.evaluation.dynamics.rollouts import decoded_from
from wakedream.evaluation.page.pictures import GAP, enlarge, to_uint8
from wakedream.model.given import frames_of
from wakedream.world.policy import Agent

FRAMES, HEIGHT = 96, 128  # of a film at most; pixels of a picture, about
LINE, INK, PAPER = 12, 0, 255  # pixels of a line of text; black on white


@torch.no_grad()
def dreamed(agent: Agent, real: Sequence[np.ndarray], task: str, *, seed: int = 0) -> list[np.ndarray]:
    """Real episodes, uint8 (t h w c), to films uint8 (t h w 3): the episode on the left, on the right what the same
    policy dreams under the task from the same first frame, and below that what is expected of it: reward, value,
    whether it goes on. The shorter one waits."""
    device, rows = agent.device, len(real)
    first = agent.tokenizer.encode(frames_of(np.stack([film[0] for film in real])[:, None].transpose(0, 1, 4, 2, 3)))
    spec = agent.model.dynamics.actions
    actions = {c.name: torch.from_numpy(c.zeros(rows)).unsqueeze(1) for c in spec.components}
    led = Trajectory.of_actions(actions, torch.zeros(rows, 1, dtype=torch.bool))
    led = replace(led, task=numbers(agent.tasks, task, rows)[:, None])
    clip = LatentClip(first.float(), led, torch.zeros(rows, 1, dtype=torch.int64)).to(device)
    length = min(FRAMES, max(len(film) for film in real))
    contexts = Contexts(clip, row_seeds(seed, rows)[:, None].to(device))
    rollout = Imagining(agent.model, rows).rollout(contexts, rows, max(1, length - 1))
    latents = torch.cat([clip.latents, rollout.latents], dim=1)
    pictures = decoded_from(agent.tokenizer, latents, 0)
    told = [read(rollout.hidden).float().cpu().numpy()
            for read in (agent.model.reward_at, agent.model.value_at, agent.model.goes_on_at)]
    return [_film(film, to_uint8(own), *(numbers[row] for numbers in told))
            for row, (film, own) in enumerate(zip(real, pictures, strict=True))]


def _film(real: np.ndarray, dream: np.ndarray, reward: np.ndarray, value: np.ndarray,
          goes_on: np.ndarray) -> np.ndarray:
    real = np.broadcast_to(real, (*real.shape[:3], 3))[:len(dream)]
    real = np.concatenate([real, np.repeat(real[-1:], len(dream) - len(real), axis=0)])
    scale = max(1, round(HEIGHT / real.shape[1]))
    gap = np.full((len(dream), real.shape[1] * scale, GAP, 3), PAPER, np.uint8)
    pair = np.concatenate([enlarge(real, scale), gap, enlarge(dream, scale)], axis=2)
    texts = [f"reward {r:+.2f}\nvalue {v:+.2f}\ngoes on {100 * on:.0f}%"
             for r, v, on in zip(reward, value, goes_on, strict=True)]
    band = np.stack([_text(text, pair.shape[2], left=real.shape[2] * scale + GAP) for text in texts])
    return np.concatenate([pair, band], axis=1)


def _text(text: str, width: int, left: int) -> np.ndarray:
    """uint8 (h width 3)."""
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGB", (width, LINE * (text.count("\n") + 1) + GAP), (PAPER,) * 3)
    ImageDraw.Draw(image).text((left, 0), text, fill=(INK,) * 3, font=ImageFont.load_default(10), spacing=2)
    return np.asarray(image)
