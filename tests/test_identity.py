"""What is known by its config stays what it is when a config gains a field."""

import dataclasses
import json
from pathlib import Path

import pytest

from wakedream.config import added, from_dict, shown, to_dict
from wakedream.data.actions import ActionComponent, ActionSpec
from wakedream.dynamics import dynamics as dynamics_file
from wakedream.dynamics.dynamics import Dynamics
from wakedream.presets import dynamics as dynamics_presets
from wakedream.presets import tokenizer as tokenizer_presets
from wakedream.tokenizer import tokenizer as tokenizer_file
from wakedream.tokenizer.tokenizer import Tokenizer

FORMATS = Path(__file__).parent / "formats"
VERSIONS = sorted(path.name for path in FORMATS.iterdir())
SPEC = ActionSpec((ActionComponent("move", "categorical", 3),))


def all_configs() -> list:
    """One of every dataclass of options that a run, a model or a data set is known by."""
    found: dict[type, object] = {}

    def walk(config: object) -> None:
        found.setdefault(type(config), config)
        for field in dataclasses.fields(config):
            value = getattr(config, field.name)
            for one in value if isinstance(value, tuple) else (value,):
                if dataclasses.is_dataclass(one):
                    walk(one)

    for config in (*(preset() for preset in tokenizer_presets.PRESETS.values()),
                   *(preset() for preset in dynamics_presets.PRESETS.values()), SPEC):
        walk(config)
    return list(found.values())


CONFIGS = all_configs()


def grown(kind: type, default: int = 1, was: int = 1) -> type:
    """The dataclass with a field more, as it would be declared today."""
    field = ("rings", int, added(default, was=was))
    return dataclasses.make_dataclass(kind.__name__, [field], bases=(kind,), frozen=True)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: type(config).__name__)
def test_a_field_that_came_later_is_shown_only_where_it_matters(config) -> None:
    """A default that changes later changes neither what an old file means nor what it is known by."""
    fields = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    for now in (grown(type(config)), grown(type(config), default=5)):
        read = from_dict(now, to_dict(config))
        assert read.rings == 1
        assert shown(read) == shown(config)
        other = now(**fields, rings=2)
        assert shown(other) == shown(config) | {"rings": 2}
        assert from_dict(now, to_dict(other)) == other
    assert to_dict(grown(type(config), default=5)(**fields))["rings"] == 5  # a new file says what it means


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("file", "name", "kind"), [(tokenizer_file, "TokenizerConfig", Tokenizer),
                                                    (dynamics_file, "DynamicsConfig", Dynamics)])
def test_weights_keep_their_fingerprint(monkeypatch, version, file, name, kind) -> None:
    folder = FORMATS / version / "world" / ("tokenizer" if kind is Tokenizer else "dynamics")
    before = kind.from_pretrained(folder).fingerprint()
    for default in (1, 5):
        now = grown(getattr(file, name), default)
        with monkeypatch.context() as later:
            later.setattr(file, name, now)
            model = kind.from_pretrained(folder)
        assert model.config.rings == 1
        assert model.fingerprint() == before
        model.config = dataclasses.replace(model.config, rings=2)
        assert model.fingerprint() != before


@pytest.mark.parametrize("version", VERSIONS)
def test_fingerprints_are_those_of_before(version) -> None:
    """As runs, latents and worlds of that time have them in their files."""
    config = json.loads((FORMATS / version / "dynamics" / "config.json").read_text())
    tokenizer = Tokenizer.from_pretrained(FORMATS / version / "tokenizer")
    assert tokenizer.fingerprint() == config["tokenizer"]["fingerprint"]
    assert Dynamics.from_pretrained(FORMATS / version / "dynamics").tokenizer == tokenizer.fingerprint()
