"""Laws of the action embedding: no action is exactly the learned embedding, each component is heard."""

import numpy as np
import pytest
import torch
from torch import Tensor

from wakedream.data.actions import ActionComponent, ActionSpec
from wakedream.dynamics.embed import ActionEmbedding, check_actions, mu_law_bins
from wakedream.errors import DataError

SPEC = ActionSpec((
    ActionComponent("keys", "binary", 3),  # names that would collide with methods of a module's containers
    ActionComponent("type", "categorical", 4),
    ActionComponent("mouse", "continuous", 2, low=(-180.0, 0.0), high=(180.0, 1.0)),
))


def embedding(spec: ActionSpec = SPEC, dim: int = 24, **options) -> ActionEmbedding:
    torch.manual_seed(0)
    return ActionEmbedding(spec, dim, **options)


def sample(b: int = 2, t: int = 5, seed: int = 1) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(seed)
    return {"keys": torch.randint(0, 2, (b, t, 3), generator=random).float(),
            "type": torch.randint(0, 4, (b, t), generator=random),
            "mouse": torch.rand(b, t, 2, generator=random) * torch.tensor([360.0, 1.0]) - torch.tensor([180.0, 0.0])}


BOTH = pytest.mark.parametrize("bins", [None, 11])


@BOTH
def test_a_frame_without_action_is_the_learned_embedding_whatever_stands_there(bins):
    embed, actions = embedding(num_tokens=2, bins=bins), sample()
    has_action = torch.tensor([[False, True, True, False, True]] * 2)
    tokens = embed(actions, has_action)
    assert tokens.shape == (2, 5, 2, 24)
    assert torch.equal(tokens[~has_action], embed.no_action.expand(4, -1, -1))
    assert ((tokens[has_action] - embed.no_action).abs().amax((1, 2)) > 0.1).all()
    rubbish = {"keys": actions["keys"] + 7, "type": actions["type"] - 99, "mouse": actions["mouse"] * torch.nan}
    for name, values in rubbish.items():
        known = has_action if values.ndim == 2 else has_action[..., None]
        rubbish[name] = torch.where(known, actions[name], values)
    assert torch.equal(embed(rubbish, has_action), tokens)


@BOTH
def test_no_gradient_comes_to_the_components_from_unlabelled_frames(bins):
    embed, actions = embedding(bins=bins), sample()
    actions["mouse"][0] = torch.nan
    embed(actions, torch.zeros(2, 5, dtype=torch.bool)).square().sum().backward()
    assert embed.table.grad.count_nonzero() == 0
    assert embed.no_action.grad.abs().min() > 0
    embed(actions, torch.tensor([[False] * 5, [False, True] + [False] * 3])).square().sum().backward()
    chosen = embed.features({name: values[1:, 1:2] for name, values in actions.items()})[0, 0] != 0
    assert torch.equal(embed.table.grad.abs().amax(1) > 0, chosen)


@BOTH
def test_each_component_each_bit_and_each_dimension_matters_and_only_at_its_frame(bins):
    embed, has_action = embedding(bins=bins), torch.ones(2, 5, dtype=torch.bool)
    actions = sample()
    before = embed(actions, has_action)
    places = [("type", (0, 3)), *(("keys", (0, 3, i)) for i in range(3)), *(("mouse", (0, 3, i)) for i in range(2))]
    for name, at in places:
        other = {key: values.clone() for key, values in actions.items()}
        value = other[name][at]
        other[name][at] = (value + 1) % 4 if name == "type" else 1 - value if name == "keys" else -value / 2 + 0.5
        changed = (embed(other, has_action) - before).abs().amax((2, 3)) > 1e-2
        assert changed.nonzero().tolist() == [[0, 3]], (name, at)


@BOTH
def test_bits_and_dimensions_are_told_apart(bins):
    embed, actions, has_action = embedding(bins=bins), sample(1, 1), torch.ones(1, 1, dtype=torch.bool)
    for name, values in {"keys": [1.0, 0.0, 0.0], "mouse": [90.0, 0.5]}.items():
        one = torch.tensor(values)[None, None]
        other = one.roll(1, -1) if name == "keys" else torch.tensor([[[0.0, 0.75]]])  # the same, scaled, exchanged
        tokens = [embed({**actions, name: each}, has_action) for each in (one, other)]
        assert (tokens[0] - tokens[1]).abs().max() > 0.1, name


def test_all_choices_differ_and_continuous_values_are_scaled_by_their_bounds():
    embed = embedding(ActionSpec((ActionComponent("a", "categorical", 4),)))
    tokens = embed({"a": torch.arange(4)[None]}, torch.ones(1, 4, dtype=torch.bool))[0, :, 0]
    assert torch.pdist(tokens).min() > 1
    wide, narrow = (embedding(ActionSpec((ActionComponent("a", "continuous", 1, (-high,), (high,)),)))
                    for high in (180.0, 0.5))
    has_action, x = torch.ones(1, 3, dtype=torch.bool), torch.tensor([-1.0, 0.0, 0.5])[None, :, None]
    assert torch.allclose(wide({"a": 180 * x}, has_action), narrow({"a": x / 2}, has_action))
    assert torch.equal(wide({"a": 180 * x}, has_action)[0, 1], wide.no_action)


def test_without_bounds_values_are_clipped_and_that_is_said():
    spec = ActionSpec((ActionComponent("a", "continuous", 1),))
    with pytest.warns(UserWarning, match="'a' has no bounds: its values are clipped"):
        embed = ActionEmbedding(spec, 8)
    x = torch.tensor([1.0, 50.0, -0.5, -1.0, -50.0])[None, :, None]
    tokens = embed({"a": x}, torch.ones(1, 5, dtype=torch.bool))[0, :, 0]
    assert torch.equal(tokens[0], tokens[1])
    assert torch.equal(tokens[3], tokens[4])
    assert not torch.equal(tokens[2], tokens[3])


def test_with_one_bound_values_are_clipped_two_units_from_it_and_that_is_said():
    spec = ActionSpec((ActionComponent("a", "continuous", 2, (3.0, None), (None, 1.0)),))
    with pytest.warns(UserWarning, match=r"'a' .* clipped to \(3.0, -1.0\) .. \(5.0, 1.0\)"):
        embed = ActionEmbedding(spec, 8)
    full = embedding(ActionSpec((ActionComponent("a", "continuous", 2, (3.0, -1.0), (5.0, 1.0)),)), dim=8)
    embed.load_state_dict(full.state_dict())
    x = torch.tensor([[3.0, -1.0], [4.5, 0.2], [5.0, 1.0], [9.0, -7.0]])[None]
    has_action = torch.ones(1, 4, dtype=torch.bool)
    assert torch.equal(embed({"a": x}, has_action), full({"a": x}, has_action))
    check_actions(spec, {"a": x}, has_action)
    with pytest.raises(DataError, match=r"at \(0, 1\)"):
        check_actions(spec, {"a": x - torch.tensor([[0.0], [2.0], [0.0], [0.0]])}, has_action)


def test_a_dimension_with_one_possible_value_is_no_trouble():
    embed = embedding(ActionSpec((ActionComponent("a", "continuous", 2, (3.0, 0.0), (3.0, 1.0)),)))
    tokens = embed({"a": torch.tensor([[[3.0, 1.0]]])}, torch.ones(1, 1, dtype=torch.bool))
    assert tokens.isfinite().all()


def test_without_components_only_the_learned_embedding_is_there():
    embed = embedding(ActionSpec(), num_tokens=3)
    assert [name for name, _ in embed.named_parameters()] == ["no_action"]
    assert torch.equal(embed({}, torch.zeros(2, 4, dtype=torch.bool)), embed.no_action.expand(2, 4, -1, -1))


@BOTH
def test_tokens_have_about_unit_variance(bins):
    embed = embedding(dim=512, bins=bins)
    tokens = embed(sample(16, 64), torch.ones(16, 64, dtype=torch.bool))
    assert 0.8 < tokens.std() < 1.2
    shares = [embed.no_action, embed.table[3:7]]
    assert all(0.45 < share.std() < 0.55 for share in shares)  # four parts of variance 1/4


@pytest.mark.parametrize("bins", [3, 11, 101])
def test_mu_law_bins_are_symmetric_monotone_complete_and_finer_near_zero(bins):
    x = torch.linspace(-1, 1, 20001)
    x = torch.cat([x[:10000], torch.zeros(1), -x[:10000].flip(0)])  # exactly symmetric
    found = mu_law_bins(x, bins)
    assert found.dtype == torch.int64
    assert mu_law_bins(torch.tensor([-0.0, 0.0]), bins).tolist() == [bins // 2] * 2
    assert mu_law_bins(torch.tensor([-9.0, -1.0, 1.0, 9.0]), bins).tolist() == [0, 0, bins - 1, bins - 1]
    assert (found.diff() >= 0).all()
    assert torch.equal(found.flip(0), bins - 1 - found)
    assert found.unique().tolist() == list(range(bins))
    widths = found.bincount()[bins // 2:]
    widths[0] = widths[0] // 2  # the middle bin, cut at zero; the last is cut by the end
    assert (widths[1:-1].diff() > 0).all()
    assert widths[0] < widths[1]


def test_the_bins_of_the_mouse_are_those_of_its_source():
    """Video PreTraining: mu 10, 11 bins; the formula once more, in float64. Uniform bins would be 0.2 wide."""
    edges = [(11 ** ((2 * k - 1) / 10) - 1) / 10 for k in range(1, 6)]
    assert np.allclose(edges, [0.0271, 0.1053, 0.2317, 0.4358, 0.7655], atol=1e-4)
    x = torch.tensor(edges)
    assert mu_law_bins(x - 1e-4, 11).tolist() == [5, 6, 7, 8, 9]
    assert mu_law_bins(x + 1e-4, 11).tolist() == [6, 7, 8, 9, 10]


def test_an_even_number_of_bins_is_symmetric_too():
    x = torch.linspace(0.001, 1, 999)
    assert torch.equal(mu_law_bins(-x, 4), 3 - mu_law_bins(x, 4))
    edge = (11 ** (2 / 3) - 1) / 10  # bins stand at -1, -1/3, 1/3, 1 of the companded axis
    assert torch.equal(mu_law_bins(x, 4), 2 + (x > edge))
    assert mu_law_bins(torch.zeros(1), 4).tolist() == [2]


@BOTH
def test_any_space_can_be_embedded(bins):
    spaces = pytest.importorskip("gymnasium.spaces")
    space = spaces.Dict(a=spaces.Discrete(2, start=3), b=spaces.Tuple((
        spaces.MultiDiscrete([2, 3]), spaces.Dict(c=spaces.MultiBinary((2, 2)), items=spaces.Box(-2, 3, (3,))))))
    space.seed(0)
    spec = ActionSpec.from_space(space)
    seen = [spec.flatten(space.sample()) for _ in range(12)]
    actions = {name: torch.from_numpy(np.stack([one[name] for one in seen])).unflatten(0, (3, 4)) for name in seen[0]}
    has_action = torch.ones(3, 4, dtype=torch.bool)
    check_actions(spec, actions, has_action)
    embed = embedding(spec, num_tokens=2, bins=bins)
    tokens = embed(actions, has_action)
    assert tokens.shape == (3, 4, 2, 24)
    for name in actions:
        other = {**actions, name: actions[name].roll(1, 1)}
        assert not torch.equal(embed(other, has_action), tokens), name


def test_mixed_precision_changes_only_the_rounding():
    embed, actions, has_action = embedding(bins=11), sample(), torch.ones(2, 5, dtype=torch.bool)
    has_action[:, 0] = False
    full = embed(actions, has_action)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = embed(actions, has_action)
    assert mixed.dtype == torch.bfloat16
    assert torch.allclose(mixed.float(), full, atol=0.03)
    assert torch.equal(mixed[:, 0], embed.no_action.bfloat16().expand(2, -1, -1))
    low = embedding(bins=11).bfloat16()
    assert torch.allclose(low(actions, has_action).float(), full, atol=0.05)


@pytest.mark.parametrize(("change", "match"), [
    ({"keys": None}, r"lacking \['keys'\]"),
    ({"jump": torch.zeros(2, 5)}, r"unknown \['jump'\]"),
    ({"mouse": torch.zeros(2, 5, 3)}, r"'mouse': got torch.float32 \(2, 5, 3\), expected torch.float32 \(2, 5, 2\)"),
    ({"type": torch.zeros(2, 4).long()}, r"'type': got torch.int64 \(2, 4\), expected torch.int64 \(2, 5\)"),
    ({"type": torch.zeros(2, 5).int()}, r"'type': got torch.int32"),
    ({"keys": torch.zeros(2, 5, 3).long()}, r"'keys': got torch.int64"),
])
def test_actions_of_another_spec_are_refused_by_name(change, match):
    actions = {name: values for name, values in {**sample(), **change}.items() if values is not None}
    with pytest.raises(DataError, match=match):
        check_actions(SPEC, actions, torch.ones(2, 5, dtype=torch.bool))


@pytest.mark.parametrize(("name", "value", "match"), [
    ("keys", 0.5, r"got \[0.5, .*\] at \(1, 2\), expected 3 of 0 or 1"),
    ("type", 4, r"got 4 at \(1, 2\), expected 0 to 3"),
    ("type", -1, r"got -1 at \(1, 2\), expected 0 to 3"),
    ("mouse", 181, r"got \[181.0, .*\] at \(1, 2\), expected 2 finite numbers, from \[-180.0, 0.0\] to \[180.0, 1.0\]"),
    ("mouse", float("nan"), r"got \[nan, .*\] at \(1, 2\)"),
])
def test_impossible_values_are_refused_but_not_as_placeholders(name, value, match):
    actions, has_action = sample(), torch.ones(2, 5, dtype=torch.bool)
    check_actions(SPEC, actions, has_action)
    actions[name].view(2, 5, -1)[1, 2, 0] = value
    with pytest.raises(DataError, match=f"'{name}': {match}"):
        check_actions(SPEC, actions, has_action)
    has_action[1, 2] = False
    check_actions(SPEC, actions, has_action)
    with pytest.raises(DataError, match=r"has_action is torch.float32"):
        check_actions(SPEC, actions, has_action.float())


def test_bounds_that_float32_cannot_hold_still_include_their_ends():
    spec = ActionSpec((ActionComponent("a", "continuous", 1, low=(-0.1,), high=(0.1,)),))
    check_actions(spec, {"a": torch.tensor([[-0.1], [0.1]])}, torch.ones(2, dtype=torch.bool))
    with pytest.raises(DataError, match=r"at \(0,\)"):
        check_actions(spec, {"a": torch.tensor([[0.10001]])}, torch.ones(1, dtype=torch.bool))


@pytest.mark.compile
def test_it_compiles_whole():
    embed, actions, has_action = embedding(num_tokens=2, bins=11), sample(), torch.rand(2, 5) < 0.5
    compiled = torch.compile(embed, fullgraph=True)
    assert torch.allclose(compiled(actions, has_action), embed(actions, has_action), atol=1e-6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        compiled(actions, has_action).float().sum().backward()
    assert embed.table.grad.isfinite().all()
