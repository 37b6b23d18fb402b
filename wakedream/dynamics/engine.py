"""The dream engine: many dreams as rows of one batch, made once and kept (paper section 3.2)."""

import copy
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from wakedream.data.trajectory import Actions, Trajectory
from wakedream.dynamics.embed import check_actions, impossible
from wakedream.dynamics.noise import COMMIT, START, noise
from wakedream.dynamics.sampler import sample
from wakedream.dynamics.shortcut import Noised, commit_level, finest_index, noised, sampling_passes, signal_of
from wakedream.errors import ConfigError, DataError
from wakedream.model.frozen import Shared, refresh
from wakedream.model.pretrained import Pretrained
from wakedream.model.stepwise import FrameByFrame, computed, filled
from wakedream.notation import Latent, Latents
from wakedream.transformer.cache import Cache, CacheState

CHUNK = 32  # frames of a context that are looked at together
AFTER, WITH_NEXT = "after", "with next"  # when a finished frame is looked at once more


@dataclass(frozen=True)
class Step:
    """The next frame's latents (b l e) in [-1, 1]; what the tokens put out when it was committed, (b k d) by name."""

    latents: Latent
    outputs: dict[str, Tensor]


@dataclass(frozen=True)
class EngineState:
    """Rows of an engine, put aside: rings, seeds, and the frame that waits to be committed. `to` moves it."""

    cache: CacheState
    own: dict[str, Tensor]


class DreamEngine:
    """`rows` dreams side by side, in latents alone; of any length, at constant cost per frame.

        engine = DreamEngine(dynamics, rows=64, sampling_steps=4)
        engine.start(seeds=torch.arange(64))                        # all rows begin, each with noise of its own
        engine.observe(latents, trajectory)                         # a context: what really happened (64 t l e)
        step = engine.step({"action": torch.zeros(64, dtype=torch.int64)})       # Step(latents (64 l e), outputs)
        state = engine.state(torch.tensor([3]))                     # row 3 as it stands: `load` goes on there
        engine.reset(torch.tensor([0, 5]), torch.tensor([7, 8]))    # two rows begin anew, with these seeds

    Rows are chosen by number, int64 (n), None for all. Weights are frozen and compiled once for a model and shared by
    all engines of it (`refresh` takes them over when they have changed); caches and graphs are the engine's. Noise is a
    pure function of the row's seed, the frame's number and the draw (noise.py): bit-equal whatever the batch, a dream
    within tolerance, since products change with the batch. A step never waits for the device: actions on the host
    are checked at once, those on the device when something is asked for that waits anyway (`check`).

    A finished frame, dreamed or from data, is noised once to the commit level and looked at once more; what attention
    over time keeps of that is the past of all later frames. commit says when:

        after       at the end of its step, which then knows what `keep` put out there: K + 1 passes
        with next   together with the next frame's first pass, as two frames in one: K passes; `outputs` are empty

    tokens          further tokens by name (Dynamics.forward), the same in every frame until `tell` changes them: (k d),
                    or (b k d) where rows have their own. They are part of a row's state
    keep            the names of the tokens whose outputs are wanted
    sampling_steps  K, a power of two up to the model's finest_steps
    precision       of the weights: "bf16" (on a GPU by default), "float32"; by default on a CPU the model's own.
                    "fp8" on GPUs that have it: the products of layers, all else as in "bf16"; faster, less exact
    graph           a step is one CUDA graph, recorded at the first one (default: on a GPU)
    compile         layers are compiled first, which takes a minute and pays for long dreams
    shared          the frozen copy to use, if its users are kept elsewhere (Dream)
    """

    @torch.inference_mode(False)
    @torch.no_grad()
    def __init__(self, dynamics: Pretrained, rows: int = 1, *, sampling_steps: int = 4, commit: str = AFTER,
                 tokens: Mapping[str, Tensor] | None = None, keep: Sequence[str] = (), precision: str | None = None,
                 graph: bool | None = None, compile: bool = False, shared: Shared | None = None):
        self.device, self.rows, self.commit = next(dynamics.parameters()).device, rows, commit
        self._mode = FrameByFrame("model", "dreams", self.device, rows, precision, graph, compile)
        config: Any = dynamics.config
        self.config = config
        finest = config.finest_steps
        check_sampling_steps(sampling_steps, finest)
        if commit not in (AFTER, WITH_NEXT):
            raise ConfigError(f"commit is {commit!r}: expected '{AFTER}' or '{WITH_NEXT}'")
        if commit == WITH_NEXT and keep:
            raise ConfigError(f"commit '{WITH_NEXT}' knows no outputs of the frame just made: leave keep empty, or "
                              f"commit '{AFTER}'")
        self._source = weakref.ref(dynamics)
        if shared is None:
            shared = self._mode.shared(dynamics, dynamics.OUTPUT)
            shared.users.add(self)
        self.model: Any = shared.model
        self._keep = tuple(keep)
        self._passes = sampling_passes(sampling_steps, finest, bool(self.model.shortcut))
        self._names = [component.name for component in self.model.actions.components]
        self._extra = tuple(tokens or {})
        self.cache: Cache = self.model.init_cache(rows, {name: part.shape[-2] for name, part in (tokens or {}).items()})
        self._own = self._empty() | {f"tokens/{name}": part.detach().expand(rows, *part.shape[-2:]).to(
            self.device, copy=True, memory_format=torch.contiguous_format) for name, part in (tokens or {}).items()}
        self._run = self._mode.recorded(self._step, [*self.cache.position, *self._own.values()])
        self._faulty = torch.zeros((), dtype=torch.bool, device=self.device)
        self._all = torch.ones(rows, dtype=torch.bool, device=self.device)  # made here: a copy from the host would wait

    def start(self, rows: Tensor | None = None, latents: Latents | None = None, trajectory: Trajectory | None = None,
              seeds: Int[Tensor, " n"] | None = None) -> dict[str, Tensor]:
        """`reset`, then `observe` if there is a context."""
        self.reset(rows, seeds)
        return {} if latents is None else self.observe(latents, trajectory, rows)

    def reset(self, rows: Tensor | None = None, seeds: Int[Tensor, " n"] | None = None) -> None:
        """Rows forget everything and begin anew; with new seeds if given, else with the noise that they had."""
        chosen = self._numbers(rows)
        if seeds is not None:
            if seeds.shape != chosen.shape:
                raise ValueError(f"expected a seed for each of {len(chosen)} rows, got {tuple(seeds.shape)}")
            self._own["seeds"][chosen] = seeds.to(self.device, torch.int64)
        self._own["waits"][chosen] = False
        mask = torch.zeros(self.rows, dtype=torch.bool, device=self.device)
        mask[chosen] = True
        self.cache.reset(mask)

    @torch.inference_mode(False)
    @torch.no_grad()
    def tell(self, tokens: Mapping[str, Tensor], rows: Tensor | None = None) -> None:
        """Rows have these further tokens from their next frame on, (k d) or (n k d) by name; what they have seen is
        kept as it was seen."""
        chosen = self._numbers(rows)
        for name, part in tokens.items():
            own = self._own.get(f"tokens/{name}")
            if own is None or part.shape not in (own.shape[1:], (len(chosen), *own.shape[1:])):
                raise ValueError(f"tokens '{name}' are {tuple(part.shape)}: expected those that the engine was made "
                                 f"with, {', '.join(self._extra) or 'none'}, of their shape (k, d), or of that for "
                                 f"each of {len(chosen)} rows")
            own[chosen] = part.detach().to(own)

    def observe(self, latents: Latents, trajectory: Trajectory | None = None,
                rows: Tensor | None = None) -> dict[str, Tensor]:
        """Frames (n t l e) in [-1, 1] that really happened, after those that the rows have seen; all of them stand at
        the commit level. Of any length: they are streamed through. What `keep` put out, (n t k d) by name."""
        chosen = None if rows is None else self._numbers(rows)
        count = self.rows if chosen is None else len(chosen)
        frames = latents.shape[1] if latents.ndim == 4 else 0
        expected = (count, frames, self.config.num_latents, self.config.latent_dim)
        if frames < 1 or latents.shape != expected:
            raise ValueError(f"expected latents ({count}, t, {self.config.num_latents}, {self.config.latent_dim}), got "
                             f"{tuple(latents.shape)}")
        if not latents.isfinite().all():
            raise ValueError("the context's latents are not finite: look at the frames that were encoded")
        trajectory = trajectory or self._unknown(count, frames)
        check_actions(self.model.actions, trajectory.actions, trajectory.has_action)
        latents, trajectory = latents.to(self.device), trajectory.to(self.device)
        return self._mode.run(lambda: self._observe(latents, trajectory, chosen))

    def step(self, actions: Actions | None = None, active: Bool[Tensor, " b"] | None = None,
             has_action: Bool[Tensor, " b"] | None = None) -> Step:
        """The next frame of all rows, or of those where `active` is True: the others stay where they are, and what is
        returned for them means nothing.

        actions: lead into it, int64 (b) or float32 (b k) by component; None: none is known. has_action: in which rows.
        """
        actions, has_action = self._complete(actions, has_action)
        active = self._all if active is None else active
        if active.dtype != torch.bool or active.shape != (self.rows,):
            raise ValueError(f"expected active as bool ({self.rows},), got {active.dtype} {tuple(active.shape)}")
        inputs = [has_action, active, *(actions[name] for name in self._names)]
        latents, outputs = self._mode.run(self._run, *map(self._over, inputs))
        return Step(latents, outputs)

    def state(self, rows: Tensor | None = None) -> EngineState:
        """A copy of where the rows stand: load it later to rewind, or into other rows to fork."""
        chosen = None if rows is None else self._numbers(rows)
        own = {name: tensor.clone() if chosen is None else tensor[chosen] for name, tensor in self._own.items()}
        return EngineState(self.cache.state(chosen), own)

    @torch.inference_mode(False)
    def load(self, state: EngineState, rows: Tensor | None = None) -> None:
        """Rows go on from `state`, which has as many rows, or one for all of them; from an engine of this model with
        the same way to commit."""
        chosen = self._numbers(rows)
        count = len(state.own["seeds"])
        if count not in (1, len(chosen)):
            raise ValueError(f"the state has {count} rows: expected 1 or {len(chosen)}")
        if state.own.keys() != self._own.keys():
            raise ValueError("the state is of an engine that commits at another time or has other tokens (dreams on a "
                             f"GPU commit '{WITH_NEXT}', on a CPU '{AFTER}'): take up its frames with observe instead")
        self.cache.load(state.cache, chosen)
        for name, tensor in self._own.items():
            tensor[chosen] = state.own[name].to(self.device)

    def refresh(self) -> None:
        """Take over the model's weights as they are now, in place: for this engine and all that share its copy."""
        source = self._source()
        assert source is not None, "the model whose weights are asked for is gone"
        refresh(self.model, source)

    def check(self) -> None:
        """DataError when a step was given an action on the device that there is not. Waits for the device."""
        if bool(self._faulty):
            self._faulty.zero_()
            raise DataError("an action given on the device is none of the model's: out of its choices, bits or bounds")

    @property
    def passes(self) -> int:
        """Looks of the model that a step takes."""
        return len(self._passes) + (self.commit == AFTER)

    @property
    def seeds(self) -> Int[Tensor, " b"]:
        """Of each row, on the device."""
        return self._own["seeds"]

    @property
    def frames(self) -> Int[Tensor, " b"]:
        """How many frames each row has seen or made, on the device."""
        return self.cache.next_ids + self._own["waits"]

    def _empty(self) -> dict[str, Tensor]:
        """By name, what a row is beside its rings: its seed; and the finished frame that is not committed yet, if it
        waits for that, with the action that led into it."""
        own = {"seeds": torch.zeros(self.rows, dtype=torch.int64), "waits": torch.zeros(self.rows, dtype=torch.bool)}
        if self.commit == WITH_NEXT:
            own["clean"] = torch.zeros(self.rows, self.config.num_latents, self.config.latent_dim)
            own["has_action"] = torch.zeros(self.rows, dtype=torch.bool)
            for component in self.model.actions.components:
                own[f"actions/{component.name}"] = torch.from_numpy(component.zeros(self.rows))
        return {name: tensor.to(self.device) for name, tensor in own.items()}

    def _first(self, rows: int) -> "DreamEngine":
        """Its first rows alone, as a view: what they become, they become here."""
        made = copy.copy(self)
        made.rows, made.cache = rows, self.cache.first(rows)
        made._own = {name: tensor[:rows] for name, tensor in self._own.items()}
        return made

    def _step(self, has_action: Tensor, active: Tensor, *actions: Tensor) -> tuple[Latent, dict[str, Tensor]]:
        if (count := computed(active)) < self.rows:
            latents, outputs = self._first(count)._step(*(part[:count] for part in (has_action, active, *actions)))
            return filled(latents, self.rows), {name: filled(part, self.rows) for name, part in outputs.items()}
        step = self._step_after if self.commit == AFTER else self._step_with_next
        return step(has_action, active, *actions)

    def _step_after(self, has_action: Tensor, active: Tensor, *actions: Tensor) -> tuple[Latent, dict[str, Tensor]]:
        trajectory = self._trajectory(has_action, actions)
        frame_ids = self.cache.next_ids.unsqueeze(1)
        clean = self._sample(trajectory, frame_ids)
        outputs = self._commit(clean, trajectory, frame_ids, self._own["seeds"], self.cache, active)
        return self._finished(clean), {name: part.squeeze(1) for name, part in outputs.items()}

    def _step_with_next(self, has_action: Tensor, active: Tensor, *actions: Tensor) -> tuple[Latent, dict[str, Tensor]]:
        """The frame that waits is committed in the first pass. Rows in which none waits are given one that nobody
        sees, in a segment of its own, at the number of the frame to be made."""
        own, goes = self._own, self._own["waits"] & active  # rows that pause keep their frame waiting
        trajectory = self._trajectory(has_action, actions)
        last = self._trajectory(own["has_action"], [own[f"actions/{name}"] for name in self._names])
        before = self.cache.next_ids.unsqueeze(1)
        frame_ids = before + goes.unsqueeze(1)
        start = self._noise(frame_ids, START, own["seeds"])
        committed = self._at_commit(own["clean"].unsqueeze(1), before, own["seeds"])
        level, step_index = self._passes[0]
        both = Noised(torch.cat([committed.latents, start], 1), _beside(committed.levels, level),
                      _beside(committed.step_indices, step_index))
        segments = torch.stack([(~goes).long(), torch.zeros_like(goes, dtype=torch.int64)], dim=1)
        joined = Trajectory.of_actions({name: torch.cat([last.actions[name], trajectory.actions[name]], 1)
                                        for name in self._names},
                                       torch.cat([last.has_action, trajectory.has_action], 1))
        first = self._look(both, joined, segments=segments, committed=1, rows=goes,
                           frame_ids=torch.cat([before, frame_ids], 1)).latents[:, 1:]
        clean = self._sample(trajectory, frame_ids, start, first)
        made = {"clean": clean.squeeze(1), "has_action": has_action, "waits": torch.ones_like(goes),
                **{f"actions/{name}": value for name, value in zip(self._names, actions, strict=True)}}
        for name, value in made.items():
            wide = active.reshape(-1, *[1] * (value.ndim - 1))
            own[name].copy_(torch.where(wide, value, own[name]))
        return self._finished(clean), {}

    def _sample(self, trajectory: Trajectory, frame_ids: Tensor, start: Latents | None = None,
                first: Latents | None = None) -> Latents:
        """The clean latents of the next frame (b 1 l e); `first` is what the first pass has said already."""
        said = [] if first is None else [first]

        def predict(noisy: Noised) -> Latents:
            return said.pop() if said else self._look(noisy, trajectory, committed=0, frame_ids=frame_ids).latents

        start = self._noise(frame_ids, START, self._own["seeds"]) if start is None else start
        return sample(predict, start, self._passes, self.config.finest_steps)

    def _commit(self, clean: Latents, trajectory: Trajectory, frame_ids: Tensor, seeds: Tensor, cache: Cache,
                rows: Tensor | None = None, of: Tensor | None = None) -> dict[str, Tensor]:
        """One look at finished frames as all later ones will see them; of: these rows alone, by number."""
        return self._look(self._at_commit(clean, frame_ids, seeds), trajectory, of, cache=cache, rows=rows,
                          keep=self._keep).outputs

    def _at_commit(self, clean: Latents, frame_ids: Tensor, seeds: Tensor) -> Noised:
        finest = self.config.finest_steps
        levels = torch.full_like(frame_ids, commit_level(finest))
        noisy = noised(clean, self._noise(frame_ids, COMMIT, seeds), signal_of(levels, finest))
        return Noised(noisy, levels, torch.full_like(levels, finest_index(finest)))

    def _look(self, noisy: Noised, trajectory: Trajectory, of: Tensor | None = None, **options: Any) -> Any:
        """Further tokens, which nothing else sees, only where what they put out is kept."""
        own = {name: self._own[f"tokens/{name}"] for name in self._extra if options.get("committed") != 0}
        tokens = {name: (part if of is None else part[of]).unsqueeze(1).expand(-1, noisy.levels.shape[1], -1, -1)
                  for name, part in own.items()}
        return self.model(noisy, trajectory, tokens=tokens, **{"cache": self.cache, **options})

    def _observe(self, latents: Latents, trajectory: Trajectory, rows: Tensor | None) -> dict[str, Tensor]:
        """In a cache of these rows alone, which is then put back."""
        self._catch_up(rows)
        cache = self.cache if rows is None else self.cache.part(rows)
        seeds = self._own["seeds"] if rows is None else self._own["seeds"][rows]
        found: list[dict[str, Tensor]] = []
        for start in range(0, latents.shape[1], CHUNK):
            part = slice(start, start + CHUNK)
            clean = self.model.standardise(latents[:, part])
            frame_ids = cache.next_ids.unsqueeze(1) + torch.arange(clean.shape[1], device=self.device)
            found.append(self._commit(clean, trajectory.frames(part), frame_ids, seeds, cache, of=rows))
        if rows is not None:
            self.cache.load(cache.state(), rows)
        return {name: torch.cat([one[name] for one in found], dim=1) for name in self._keep}

    def _catch_up(self, rows: Tensor | None) -> None:
        """Commit the frames that wait in these rows, before others follow."""
        if self.commit == AFTER:
            return
        own, chosen = self._own, torch.zeros(self.rows, dtype=torch.bool, device=self.device)
        chosen[slice(None) if rows is None else rows] = True
        last = self._trajectory(own["has_action"], [own[f"actions/{name}"] for name in self._names])
        self._commit(own["clean"].unsqueeze(1), last, self.cache.next_ids.unsqueeze(1), own["seeds"], self.cache,
                     own["waits"] & chosen)
        own["waits"] &= ~chosen

    def _noise(self, frame_ids: Tensor, draw: int, seeds: Tensor) -> Latents:
        return noise(seeds, frame_ids, draw, (self.config.num_latents, self.config.latent_dim))

    def _finished(self, clean: Latents) -> Latent:
        return self.model.unstandardise(clean).squeeze(1)

    def _trajectory(self, has_action: Tensor, actions: Sequence[Tensor]) -> Trajectory:
        named = {name: value.unsqueeze(1) for name, value in zip(self._names, actions, strict=True)}
        return Trajectory.of_actions(named, has_action.unsqueeze(1))

    def _unknown(self, rows: int, frames: int) -> Trajectory:
        actions = {c.name: torch.from_numpy(c.zeros(rows * frames)).unflatten(0, (rows, frames))
                   for c in self.model.actions.components}
        return Trajectory.of_actions(actions, torch.zeros(rows, frames, dtype=torch.bool))

    def _over(self, tensor: Tensor) -> Tensor:
        """On the device, without waiting for it."""
        if tensor.device == self.device or self.device.type != "cuda":
            return tensor.to(self.device)
        return tensor.pin_memory().to(self.device, non_blocking=True)

    def _numbers(self, rows: Tensor | None) -> Int[Tensor, " n"]:
        if rows is None:
            return torch.arange(self.rows, device=self.device)
        if rows.dtype != torch.int64 or rows.ndim != 1:
            raise ValueError(f"rows are chosen by number, int64 (n,), got {rows.dtype} {tuple(rows.shape)}")
        return rows.to(self.device)

    def _complete(self, actions: Actions | None, has_action: Tensor | None) -> tuple[Actions, Tensor]:
        """Checked; zeros where there are none."""
        if has_action is None:
            known = actions is not None and bool(self._names)
            there = known and any(value.is_cuda for value in (actions or {}).values())
            has_action = self._all if there else torch.full((self.rows,), known)
        if has_action.shape != (self.rows,):
            raise ValueError(f"expected has_action ({self.rows},), got {tuple(has_action.shape)}")
        if actions is None:
            if has_action.is_cuda or has_action.any():
                raise ValueError("has_action says that there are actions, but none are given")
            actions = {name: value.squeeze(1) for name, value in self._unknown(self.rows, 1).actions.items()}
        if any(value.is_cuda for value in (*actions.values(), has_action)):
            self._faulty |= impossible(self.model.actions, actions, has_action)
        else:
            check_actions(self.model.actions, actions, has_action)
        return actions, has_action


def check_sampling_steps(steps: Any, finest: int) -> None:
    """ConfigError unless K is a power of two up to the finest grid."""
    if steps not in [2**i for i in range(finest_index(finest) + 1)]:
        raise ConfigError(f"sampling_steps is {steps!r}: expected a power of two from 1 to {finest}, the finest that "
                          "the model was trained for")


def quickest(layers: Sequence[str], device: torch.device) -> str:
    """When to commit, if nothing is kept: with the next frame, which saves a pass of many small kernels, on a GPU; but
    dense layers would copy the ring to look at two frames, and a CPU computes as much either way."""
    return WITH_NEXT if device.type == "cuda" and "dense" not in layers else AFTER


def _beside(numbers: Int[Tensor, "b 1"], value: int) -> Int[Tensor, "b 2"]:
    """The value follows."""
    return torch.cat([numbers, torch.full_like(numbers, value)], dim=1)
