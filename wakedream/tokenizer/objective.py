"""What the tokenizer is trained on: MSE over all pixels and LPIPS on the whole prediction (paper eq. 5)."""

import torch
from einops import rearrange
from torch import Tensor, nn

from wakedream.data.background import moving
from wakedream.data.clip import Clip
from wakedream.notation import Frames, PatchMask
from wakedream.perceptual.lpips import LPIPS
from wakedream.tokenizer.config import TokenizerObjectiveConfig
from wakedream.tokenizer.masking import fixed_mask, uniform_mask
from wakedream.tokenizer.shift import draw_shift, shifted
from wakedream.tokenizer.tokenizer import Tokenizer


class TokenizerObjective(nn.Module):
    """Clip to named losses; `weights` says how they are to be added once each has unit scale.

    mse     mean squared error over all pixels, visible and masked alike, frames in [0, 1]
    moving  instead of it where `moving_weight` is not 1: mean squared error with that weight on what moves; `mse` is
            then told, and not learned from
    lpips   LPIPS of `lpips_fraction` of the frames, drawn anew for every batch
    """

    background: Tensor | None

    def __init__(self, tokenizer: Tokenizer, config: TokenizerObjectiveConfig, lpips: LPIPS | None = None,
                 background: Tensor | None = None):
        """lpips: the network if it is already there, by default loaded. background: of the training data (c h w), with
        a `moving_weight`. ConfigError when frames are too small."""
        super().__init__()
        self.model, self.config = tokenizer, config
        self.weights = {"mse": 1.0}
        if config.moving_weight != 1:
            assert background is not None, "what moves is told from a background"
            self.weights = {"moving": 1.0, "mse": 0.0}
        self.register_buffer("background", background, persistent=False)
        self.lpips = None
        if config.lpips_weight > 0:
            self.weights["lpips"] = config.lpips_weight
            self.lpips = lpips or LPIPS.load(config.lpips_net)
            self.lpips.check(tokenizer.config.channels, *tokenizer.config.frame_size)

    @property
    def blocks(self) -> list[nn.Module]:
        return self.model.blocks

    @property
    def compiled(self) -> list[nn.Module]:
        """What is to be compiled, each by itself. LPIPS on a GPU alone: on two CPU cores a step with it took 13 ms
        more than one without, and 35 ms more once it was compiled."""
        return [*self.blocks, self.lpips] if self.lpips is not None and self.lpips.gain.is_cuda else self.blocks

    def prepare(self, step: int) -> bool:
        """All steps do the same work."""
        return False

    def forward(self, clip: Clip) -> dict[str, Tensor]:
        frames = clip.video.float() / 255
        where = None if self.background is None else moving(frames, self.background)
        if self.config.shift:
            by = draw_shift(len(frames), self.config.shift, frames.device)
            frames, where = shifted(frames, *by), None if where is None else shifted(where, *by)
        prediction, _ = self.model(frames, self.draw_mask(*frames.shape[:2]))
        errors = (prediction.float() - frames).square()
        losses = {"mse": errors.mean()}
        if where is not None:
            weights = torch.where(where, self.config.moving_weight, 1.0).expand_as(errors)
            losses["moving"] = (errors * weights).sum() / weights.sum()
        if self.lpips is not None:
            losses["lpips"] = self._perceptual(self.lpips, prediction, frames)
        return losses

    def draw_mask(self, batch: int, num_frames: int) -> PatchMask:
        draw = uniform_mask if self.config.mask == "uniform" else fixed_mask
        return draw(
            batch,
            num_frames,
            self.model.config.num_patches,
            self.config.mask_ratio,
            self.model.mask_token.device,
        )

    def _perceptual(self, lpips: LPIPS, prediction: Frames, frames: Frames) -> Tensor:
        prediction, frames = (rearrange(x, "b t c h w -> (b t) c h w") for x in (prediction, frames))
        count = max(1, round(self.config.lpips_fraction * frames.shape[0]))
        chosen = torch.rand(frames.shape[0], device=frames.device).argsort()[:count]
        return lpips(prediction[chosen], frames[chosen]).mean()
