import torch

from wakedream.tokenizer.shift import draw_shift, shifted


def test_a_clip_moves_as_one_and_its_edge_is_repeated():
    frames = torch.arange(2 * 3 * 4 * 5).reshape(1, 2, 3, 4, 5).repeat(3, 1, 1, 1, 1)
    moved = shifted(frames, torch.tensor([0, 1, -2]), torch.tensor([0, -1, 3]))
    assert torch.equal(moved[0], frames[0])
    assert torch.equal(moved[1, :, :, 1:, :-1], frames[1, :, :, :-1, 1:])  # one down, one to the left
    assert torch.equal(moved[1, :, :, 0], moved[1, :, :, 1]) and torch.equal(moved[1, ..., -1], moved[1, ..., -2])
    assert torch.equal(moved[2, :, :, :2, 3:], frames[2, :, :, 2:, :2])
    assert torch.equal(moved[2, ..., :3], moved[2, ..., 3:4].expand(-1, -1, -1, 3))


def test_half_of_the_clips_move_by_up_to_so_many_pixels():
    torch.manual_seed(0)
    for most in (1, 4):
        moves = torch.stack(draw_shift(4000, most, torch.device("cpu")))
        assert set(moves.flatten().tolist()) == set(range(-most, most + 1))
        stay = (moves == 0).all(0).float().mean()
        assert abs(stay - (0.5 + 0.5 / (2 * most + 1) ** 2)) < 0.03
        assert moves[:, (moves != 0).all(0)].float().mean(1).abs().max() < 0.2 * most
