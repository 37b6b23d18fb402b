"""Which keys do what: from the world's actions to a legend, and from the keys held to an action."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from wakedream.data.actions import ActionComponent, ActionSpec

# the browser's names of keys (KeyboardEvent.code) for what actions are often called; the first that is free is taken
USUAL = {"left": ("ArrowLeft", "KeyA"), "right": ("ArrowRight", "KeyD"), "up": ("ArrowUp", "KeyW"),
         "down": ("ArrowDown", "KeyS"), "forward": ("ArrowUp", "KeyW"), "jump": ("Space", "ArrowUp"),
         "do": ("Space",), "shoot": ("Space",), "fire": ("Space",), "attack": ("Space",), "toggle": ("Space",),
         "pickup": ("KeyE",), "drop": ("KeyQ",), "use": ("KeyE",), "sleep": ("KeyZ",)}
STILL = ("noop", "still", "none", "nothing")
OTHERS = (*(f"Digit{n}" for n in (1, 2, 3, 4, 5, 6, 7, 8, 9, 0)), *(f"Key{c}" for c in "RTYUIOPFGHJKLXCVBNM"))
PAIRS = (("ArrowLeft", "ArrowRight"), ("ArrowDown", "ArrowUp"), ("KeyA", "KeyD"), ("KeyS", "KeyW"))


@dataclass(frozen=True)
class Key:
    """A key that does one thing. value: the choice, 1 for a bit, or the number of a dimension `index`."""

    code: str
    label: str
    component: str
    index: int
    value: float


@dataclass(frozen=True)
class Controls:
    """keys: in the order of the legend; still: the choice of each categorical component while no key is held."""

    spec: ActionSpec
    keys: tuple[Key, ...]
    still: Mapping[str, int]

    def actions(self, held: Sequence[str]) -> dict[str, np.ndarray]:
        """By component, int64 () or float32 (k), for these keys, of which those pressed last win. Unknown ones do
        nothing."""
        found = {c.name: c.zeros(1)[0] for c in self.spec.components}
        for name, choice in self.still.items():
            found[name] = np.asarray(choice, np.int64)
        kinds = {c.name: c.kind for c in self.spec.components}
        for code in held:
            for key in self.keys:
                if key.code != code:
                    continue
                if kinds[key.component] == "categorical":
                    found[key.component] = np.asarray(int(key.value), np.int64)
                else:
                    found[key.component][key.index] = key.value
        return found


def controls(spec: ActionSpec, commands: Mapping[str, int] | None = None) -> Controls:
    """A key for every choice, bit and direction. commands: names of the choices of the only component, where the
    environment has them (registry.Environment.names)."""
    free = list(dict.fromkeys([code for codes in USUAL.values() for code in codes])) + list(OTHERS)
    keys, still = list[Key](), dict[str, int]()

    def take(label: str, component: str, index: int, value: float) -> None:
        usual = [code for code in USUAL.get(label.lower().rsplit("_", 1)[-1], ()) if code in free]
        code = next((code for code in (*usual, *OTHERS) if code in free), None)
        if code is not None:  # more choices than keys: the last ones have none
            free.remove(code)
            keys.append(Key(code, label, component, index, value))

    for component in spec.components:
        names = _names(component, commands if len(spec.components) == 1 else None)
        if component.kind == "categorical":
            idle = next((i for i, name in enumerate(names) if name.lower() in STILL), 0)
            still[component.name] = idle
            for i, name in sorted(enumerate(names), key=lambda one: one[1].lower() not in USUAL):
                if i != idle or names[i].lower() not in STILL:
                    take(name, component.name, 0, i)
        elif component.kind == "binary":
            for i, name in enumerate(names):
                take(name, component.name, i, 1)
        else:
            low, high = component.reach
            for i, name in enumerate(names):
                pair = next((pair for pair in PAIRS if set(pair) <= set(free)), None)
                for code, end, sign in zip(pair or (), (low[i], high[i]), "-+", strict=False):
                    free.remove(code)
                    keys.append(Key(code, f"{name} {sign}", component.name, i, end))
    return Controls(spec, tuple(keys), still)


def _names(component: ActionComponent, commands: Mapping[str, int] | None) -> list[str]:
    if component.labels:
        return list(component.labels)
    known = {index - component.first: name for name, index in (commands or {}).items()}
    return [known.get(i, str(component.first + i) if component.kind == "categorical" else f"{component.name} {i}")
            for i in range(component.size)]
