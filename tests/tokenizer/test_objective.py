import torch
from small import SMALL

from wakedream.data.clip import Clip
from wakedream.data.trajectory import Trajectory
from wakedream.tokenizer.config import TokenizerObjectiveConfig
from wakedream.tokenizer.objective import TokenizerObjective
from wakedream.tokenizer.tokenizer import Tokenizer


def build(background=None, **options) -> TokenizerObjective:
    torch.manual_seed(0)
    config = TokenizerObjectiveConfig(lpips_weight=0.0, **options)
    return TokenizerObjective(Tokenizer(SMALL), config, background=background)


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


def test_what_moves_weighs_more_by_its_weight_and_the_mean_of_all_weights_is_1():
    """Beside it the plain error is told, which nothing is learned from."""
    batch, still = clip(), torch.rand(3, 20, 24, generator=torch.Generator().manual_seed(2))
    batch.video[:, :, :, :, :18] = (still * 255).round().byte()[:, :, :18]  # only the right quarter moves
    objective = build(still, moving_weight=5.0)
    assert objective.weights == {"moving": 1.0, "mse": 0.0}
    torch.manual_seed(5)
    losses = objective(batch)
    plain = build()
    torch.manual_seed(5)
    assert losses["mse"] == plain(batch)["mse"]
    torch.manual_seed(5)
    frames = batch.video.float() / 255
    errors = (objective.model(frames, objective.draw_mask(2, 4))[0] - frames).square()
    weights = torch.ones_like(errors)
    for b, t, y, x in (((frames - still).abs() * 255).amax(2) > 20.5).nonzero().tolist():
        weights[b, t, :, y, x] = 5
    assert weights[..., :18].max() == 1 and weights[..., 18:].mean() > 4
    torch.testing.assert_close(losses["moving"], (errors * weights / weights.mean()).mean())


def test_where_everything_moves_the_weight_changes_nothing():
    batch = clip()
    far = (batch.video[0, 0].float() / 255 + 0.5) % 1
    batch.video[:] = batch.video[0, 0]
    torch.manual_seed(5)
    losses = build(far, moving_weight=5.0)(batch)
    torch.testing.assert_close(losses["moving"], losses["mse"])


def test_the_mask_changes_from_batch_to_batch_and_follows_the_config():
    uniform, fixed = build(), build(mask="fixed", mask_ratio=0.75)
    assert not torch.equal(uniform.draw_mask(2, 4), uniform.draw_mask(2, 4))
    assert (fixed.draw_mask(2, 4).sum(-1) == round(0.75 * 9)).all()


def test_what_is_moved_is_what_is_to_be_drawn_and_weighs_where_it_came_to():
    """A model that draws the clips where they were errs; one that draws them where they are now does not."""
    batch, still = clip(), torch.zeros(3, 20, 24)
    batch.video.zero_()
    batch.video[:, :, :, 8:10, 8:10] = 255
    objective = build(still, moving_weight=5.0, shift=4)
    seen = []

    def draw(frames, mask):
        seen.append(frames)
        return torch.zeros_like(frames), None

    objective.model.forward = draw
    torch.manual_seed(3)
    for _ in range(8):
        losses = objective(batch)
        frames = seen[-1]
        assert (frames.sum((3, 4)) == 4).all()  # whole, wherever it is
        weighed = 5 * 4 / (5 * 4 + 20 * 24 - 4)
        torch.testing.assert_close(losses["moving"], torch.tensor(weighed))
    assert len({tuple(frames[0, 0, 0].nonzero()[0].tolist()) for frames in seen}) > 2
    assert all(torch.equal(frames[:, 0], frames[:, 3]) for frames in seen)
