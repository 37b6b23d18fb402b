"""Which tokens a frame has, and which of them may see which: data, from which all masks follow."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import torch
from torch import Tensor


@dataclass(frozen=True)
class TokenLayout:
    """The tokens of one frame, in order, and the modality rule inside a frame.

    segments: (modality, count) in the order of the tokens
    sees:     (modality, modalities that it may attend to)

    Example, the tokenizer's encoder with 2 patches, 1 latent, 1 register:

        TokenLayout((("patch", 2), ("latent", 1), ("register", 1)),
                    (("patch", ("patch",)), ("latent", ("patch", "latent", "register")),
                     ("register", ("patch", "latent", "register"))))

        mask      p p l r        groups: tokens 0:2 attend to 0:2,
            p     1 1 0 0                tokens 2:4 attend to 0:4
            p     1 1 0 0
            l     1 1 1 1        so two calls of a fused kernel need no mask at all.
            r     1 1 1 1
    """

    segments: tuple[tuple[str, int], ...]
    sees: tuple[tuple[str, tuple[str, ...]], ...]
    # derived once, not cached on demand: torch.compile cannot trace cached_property's lock
    num_tokens: int = field(init=False, compare=False, repr=False)
    spans: dict[str, slice] = field(init=False, compare=False, repr=False)  # where each modality's tokens stand
    groups: tuple[tuple[slice, tuple[slice, ...]], ...] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        names = [name for name, _ in self.segments]
        assert len(set(names)) == len(names) and sorted(names) == sorted(name for name, _ in self.sees), self
        assert all(other in names for _, others in self.sees for other in others), self
        ends = list(accumulate(count for _, count in self.segments))
        spans = {name: slice(end - count, end) for (name, count), end in zip(self.segments, ends, strict=True)}
        object.__setattr__(self, "num_tokens", ends[-1])
        object.__setattr__(self, "spans", spans)
        object.__setattr__(self, "groups", self._groups())

    def _groups(self) -> tuple[tuple[slice, tuple[slice, ...]], ...]:
        """Neighbouring tokens that see the same tokens: (their span, the spans they see, merged where adjacent)."""
        groups: list[tuple[slice, tuple[slice, ...]]] = []
        for name, count in self.segments:
            if count == 0:
                continue
            span, keys = self.spans[name], self._visible(name)
            if groups and groups[-1][1] == keys:
                span = slice(groups.pop()[0].start, span.stop)
            groups.append((span, keys))
        return tuple(groups)

    def _visible(self, modality: str) -> tuple[slice, ...]:
        return self.kept(dict(self.sees)[modality])

    def kept(self, names: Sequence[str]) -> tuple[slice, ...]:
        """The spans of these modalities in the order of the tokens, merged where adjacent; without empty ones."""
        merged: list[slice] = []
        for name, count in self.segments:
            if name in names and count > 0:
                span = self.spans[name]
                if merged and merged[-1].stop == span.start:
                    span = slice(merged.pop().start, span.stop)
                merged.append(span)
        return tuple(merged)

    def split(self, outputs: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        """What `kept(names)` left of (b t s d), by name."""
        counts = [(name, count) for name, count in self.segments if name in names]
        parts = outputs.split([count for _, count in counts], dim=2)
        return {name: part for (name, _), part in zip(counts, parts, strict=True)}

    def with_tokens(self, tokens: tuple[tuple[str, int], ...]) -> "TokenLayout":
        """With further segments at the end of a frame: each sees all that stands before it and itself, and is seen by
        none but itself. So what the tokens before them put out stays what it is."""
        segments, sees = self.segments, self.sees
        for name, count in tokens:
            segments = (*segments, (name, count))
            sees = (*sees, (name, (*(other for other, _ in self.segments), name)))
        return TokenLayout(segments, sees)

    def ranges(self, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor] | None:
        """int32 (s) each: token i may see tokens start[i] up to, not including, end[i]; None if that cannot say it."""
        starts, ends = torch.zeros(2, self.num_tokens, dtype=torch.int32)
        for span, keys in self.groups:
            if len(keys) != 1:
                return None
            starts[span], ends[span] = keys[0].start, keys[0].stop
        return starts.to(device), ends.to(device)

    def mask(self, device: torch.device | str = "cpu") -> Tensor:
        """bool (s s): True where the row's token may see the column's."""
        mask = torch.zeros(self.num_tokens, self.num_tokens, dtype=torch.bool, device=device)
        for span, keys in self.groups:
            for key in keys:
                mask[span, key] = True
        return mask
