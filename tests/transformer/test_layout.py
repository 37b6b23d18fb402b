import torch

from wakedream.transformer.layout import TokenLayout

EVERYTHING = ("action", "spatial", "register")
DYNAMICS = TokenLayout(
    (("action", 1), ("spatial", 4), ("register", 2), ("agent", 1)),
    tuple((name, EVERYTHING) for name in EVERYTHING) + (("agent", (*EVERYTHING, "agent")),),
)


def test_worked_example_of_the_docstring():
    layout = TokenLayout(
        (("patch", 2), ("latent", 1), ("register", 1)),
        (
            ("patch", ("patch",)),
            ("latent", ("patch", "latent", "register")),
            ("register", ("patch", "latent", "register")),
        ),
    )
    expected = [[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 1, 1]]
    assert torch.equal(layout.mask(), torch.tensor(expected, dtype=torch.bool))
    assert layout.groups == ((slice(0, 2), (slice(0, 2),)), (slice(2, 4), (slice(0, 4),)))


def test_agent_tokens_are_seen_by_none_but_themselves():
    mask = DYNAMICS.mask()
    assert mask[7].all()
    assert not mask[:7, 7].any()
    assert mask[:7, :7].all()


def test_groups_cover_every_token_once_and_spell_the_mask():
    layout = TokenLayout(
        (("a", 2), ("b", 0), ("c", 3), ("d", 1)),
        (("a", ("a", "d")), ("b", ("b",)), ("c", ("a", "b", "c")), ("d", ("c", "d"))),
    )
    rule = {"a": "ad", "c": "abc", "d": "cd"}
    owner = "aacccd"
    expected = torch.tensor([[other in rule[name] for other in owner] for name in owner])
    assert torch.equal(layout.mask(), expected)
    covered = [token for span, _ in layout.groups for token in range(span.start, span.stop)]
    assert covered == list(range(6))
