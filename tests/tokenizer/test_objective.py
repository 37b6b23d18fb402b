import torch
from small import SMALL

from wakedream.data.clip import Clip
from wakedream.data.trajectory import Trajectory
from wakedream.tokenizer.config import TokenizerObjectiveConfig
from wakedream.tokenizer.objective import TokenizerObjective
from wakedream.tokenizer.tokenizer import Tokenizer


def build(**options) -> TokenizerObjective:
    torch.manual_seed(0)
    return TokenizerObjective(Tokenizer(SMALL), TokenizerObjectiveConfig(lpips_weight=0.0, **options))


def clip() -> Clip:
    video = torch.randint(0, 256, (2, 4, 3, 20, 24), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    return Clip(video, Trajectory.of_actions({}, torch.zeros(2, 4, dtype=torch.bool)))


def test_every_parameter_learns():
    objective = build()
    objective(clip())["mse"].backward()
    silent = [
        name
        for name, parameter in objective.named_parameters()
        if parameter.grad is None or parameter.grad.abs().max() == 0
    ]
    assert not silent


def test_mse_counts_all_pixels():
    """With the mask drawn again from the same seed, the loss is the plain mean over every pixel."""
    objective, batch = build(), clip()
    torch.manual_seed(5)
    loss = objective(batch)["mse"]
    torch.manual_seed(5)
    mask = objective.draw_mask(2, 4)
    frames = batch.video.float() / 255
    prediction, _ = objective.model(frames, mask)
    total = sum(((prediction[b, t] - frames[b, t]) ** 2).sum() for b in range(2) for t in range(4))
    torch.testing.assert_close(loss, total / frames.numel())


def test_the_mask_changes_from_batch_to_batch_and_follows_the_config():
    uniform, fixed = build(), build(mask="fixed", mask_ratio=0.75)
    assert not torch.equal(uniform.draw_mask(2, 4), uniform.draw_mask(2, 4))
    assert (fixed.draw_mask(2, 4).sum(-1) == round(0.75 * 9)).all()
