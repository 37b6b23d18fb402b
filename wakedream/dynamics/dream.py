"""Dreams: latents made one frame after the other, each the next frame's past (paper section 3.2)."""

import copy
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Self

import torch
from torch import Tensor

from wakedream.data.actions import ActionSpec
from wakedream.data.trajectory import Trajectory
from wakedream.dynamics.embed import check_actions
from wakedream.dynamics.engine import DreamEngine, EngineState, check_sampling_steps, quickest
from wakedream.dynamics.noise import row_seeds
from wakedream.model.given import Given, GivenActions, actions_of, has_action_of, latents_of, tensor_of
from wakedream.model.pretrained import Pretrained
from wakedream.model.stepwise import FrameByFrame, Guest, check_state, forked
from wakedream.notation import Latent


class Dream(Guest):
    """`batch_size` dreams side by side, in latents alone; of any length, at constant cost per frame.

        dream = dynamics.dream(batch_size=2, sampling_steps=4, seed=0)
        dream.observe(latents, actions, has_action)    # a context (2 t l e), or none: the first frame is then dreamed
        latent = dream.step({"action": [3, 0]})    # (2 l e) in [-1, 1]; None: no action is known
        dream.reset([True, False])                  # the first row forgets everything, the second goes on

    A face of the DreamEngine, which is made once for a model and these options and kept: dreams of one model share it
    and take turns. The dream goes on with the weights as they are now.

    seed            of all rows together (noise.row_seeds), or int64 (b): one for each; None: a new one, from torch's
                    generator. `seeds` holds them, for another dream of the same noise
    sampling_steps  K, a power of two up to the model's finest_steps
    precision       of that copy: "bf16" (on a GPU by default), "float32"; by default on a CPU the model's own; "fp8":
                    as dynamics.engine.DreamEngine has it
    graph           a frame is one CUDA graph, recorded at the first step (default: on a GPU)
    compile         layers are compiled first, which takes a minute and pays for long dreams
    """

    def __init__(self, dynamics: Pretrained, batch_size: int = 1, *, sampling_steps: int = 4,
                 seed: Given | None = None, precision: str | None = None, graph: bool | None = None,
                 compile: bool = False):
        self.device, self.batch_size = next(dynamics.parameters()).device, batch_size
        self._mode = mode = FrameByFrame("model", "dreams", self.device, batch_size, precision, graph, compile)
        check_sampling_steps(sampling_steps, dynamics.config.finest_steps)  # type: ignore[union-attr,arg-type]
        shared = mode.shared(dynamics, dynamics.OUTPUT)
        self.sampling_steps = sampling_steps
        self._spec: ActionSpec = dynamics.actions  # type: ignore[assignment]
        self._source = weakref.ref(dynamics)
        self._share(shared, *self._engine_of(shared))
        self.seeds = self._seeds(int(torch.randint(2**63 - 1, ())) if seed is None else seed)
        self.engine.reset(seeds=self.seeds)

    @property
    def engine(self) -> DreamEngine:
        """In which this dream goes on now; others of the model may be put aside in it."""
        return self._seat

    def __repr__(self) -> str:
        return f"{type(self).__name__}({about_dreams(self)})"

    def observe(self, latents: Given, actions: GivenActions | None = None,
                has_action: Given | None = None) -> None:
        """Context frames (b t l e) in [-1, 1], after those already seen; actions[:, t] led into latents[:, t].

        has_action: bool (b t), by default True if there are actions. Any length: it is streamed through.
        """
        latents = latents_of(latents)
        self.engine.observe(latents, self.trajectory_of(tuple(latents.shape[:2]), actions, has_action))

    def trajectory_of(self, shape: tuple[int, ...], actions: GivenActions | None,
                      has_action: Given | None) -> Trajectory | None:
        """Actions of a context, (b t), looked at; None where none are known."""
        if actions is None and has_action is None:
            return None
        given = None if actions is None else actions_of(self._spec, actions, shape)
        known = has_action_of(has_action, shape)
        known = torch.full(shape, bool(given)) if known is None else known
        if tuple(known.shape) != shape:
            raise ValueError(f"expected has_action {shape}, got {tuple(known.shape)}")
        if given is None:
            if known.any():
                raise ValueError("has_action says that there are actions, but none are given")
            return None
        made = Trajectory.of_actions(given, known)
        check_actions(self._spec, made.actions, made.has_action)
        return made

    def step(self, actions: GivenActions | None = None, has_action: Given | None = None) -> Latent:
        """The next frame's latents (b l e) in [-1, 1]; actions that lead into it: int64 (b) or float32 (b k), tensors,
        arrays, lists, or plain numbers for one dream."""
        rows = (self.batch_size,)
        given = None if actions is None else actions_of(self._spec, actions, rows)
        return self.engine.step(given, has_action=has_action_of(has_action, rows)).latents

    def reset(self, rows: Given | None = None, seed: Given | None = None) -> None:
        """Start anew, all dreams or those where `rows`, bool (b), is True: with new noise if there is a seed, of each
        row or of all together, else with the same."""
        chosen = self._mode.rows_given(rows)
        if seed is not None:
            new = self._seeds(seed)
            self.seeds = new if chosen is None else torch.where(chosen.cpu(), new, self.seeds)
        numbers = None if chosen is None else chosen.nonzero().squeeze(1)
        self.engine.reset(numbers, self.seeds if numbers is None else self.seeds[numbers.cpu()])

    def state(self) -> EngineState:
        """Where all rows stand, seeds included: `load` goes on there, exactly."""
        return self.engine.state()

    def load(self, state: Any) -> None:
        """Go on as when the state was taken, from a dream of this model with as many rows; or with one row, from which
        all rows then go on, with its seed. ValueError for anything else."""
        check_state(state, EngineState, self)
        self.engine.load(state)
        self.seeds = state.own["seeds"].cpu().expand(self.batch_size).clone()

    def fork(self, rows: int | None = None) -> Self:
        """A dream of its own that goes on from where this one stands, with its noise: so what differs from now on
        comes of the actions alone. rows: so many from one dream (default: as many as there are)."""
        count = forked(self.batch_size, rows)
        made = copy.copy(self)
        made._aside, made.batch_size, made._mode = None, count, replace(self._mode, batch_size=count)
        made._share(self._copy, *made._engine_of(self._copy))
        made.load(self.state())
        return made

    def _engine_of(self, shared: Any) -> tuple[tuple, Callable[[], DreamEngine]]:
        """Under which key an engine of these options is kept with the frozen copy, and what makes it."""
        mode, source = self._mode, self._source
        options: dict[str, Any] = {"precision": mode.precision, "graph": mode.graph, "compile": mode.compile}
        key = ("dream", mode.batch_size, self.sampling_steps, bool(shared.model.shortcut), mode.graph)
        commit = quickest(shared.model.config.transformer.layers, self.device)
        return key, lambda: DreamEngine(source() or shared.model, mode.batch_size, shared=shared,
                                        sampling_steps=self.sampling_steps, commit=commit, **options)

    def _seeds(self, seed: Given) -> Tensor:
        given = tensor_of(seed, "seed")
        if isinstance(seed, int) or (given.ndim == 0 and given.dtype == torch.int64):
            return row_seeds(int(seed), self.batch_size)  # type: ignore[arg-type]
        if given.shape != (self.batch_size,) or given.dtype != torch.int64:
            raise ValueError(f"expected a seed, or one for each row as int64 ({self.batch_size},), got "
                             f"{given.dtype} {tuple(given.shape)}")
        return given.cpu()


def about_dreams(dream: Dream) -> str:
    """How many, how they are made, and with which seeds."""
    count, shown = dream.batch_size, ", ".join(str(seed) for seed in dream.seeds[:4].tolist())
    return (f"{count} {'dream' if count == 1 else 'dreams'}, {dream.sampling_steps} sampling steps a frame, seeds "
            f"[{shown}{', ...' if count > 4 else ''}], on {dream.device}")
