"""Dreams: latents made one frame after the other, each the next frame's past (paper section 3.2)."""

import torch
from torch import Tensor

from wakedream.data.trajectory import Actions, Trajectory
from wakedream.dynamics.engine import DreamEngine, EngineState, check_sampling_steps
from wakedream.dynamics.noise import row_seeds
from wakedream.model.pretrained import Pretrained
from wakedream.model.stepwise import FrameByFrame, Guest
from wakedream.notation import Latent, Latents


class Dream(Guest):
    """`batch_size` dreams side by side, in latents alone; of any length, at constant cost per frame.

        dream = dynamics.dream(batch_size=2, sampling_steps=4, seed=0)
        dream.observe(latents, actions, has_action)    # a context (2 t l e), or none: the first frame is then dreamed
        latent = dream.step({"action": torch.tensor([3, 0])})    # (2 l e) in [-1, 1]; None: no action is known
        dream.reset(torch.tensor([True, False]))    # the first row forgets everything, the second goes on

    A face of the DreamEngine, which is made once for a model and these options and kept: dreams of one model share it
    and take turns. The dream goes on with the weights as they are now.

    seed            of all rows together (noise.row_seeds), or int64 (b): one for each
    sampling_steps  K, a power of two up to the model's finest_steps
    precision       of that copy: "bf16" (on a GPU by default), "float32"; by default on a CPU the model's own
    graph           a frame is one CUDA graph, recorded at the first step (default: on a GPU)
    compile         layers are compiled first, which takes a minute and pays for long dreams
    """

    def __init__(self, dynamics: Pretrained, batch_size: int = 1, *, sampling_steps: int = 4, seed: int | Tensor = 0,
                 precision: str | None = None, graph: bool | None = None, compile: bool = False):
        self.device, self.batch_size = next(dynamics.parameters()).device, batch_size
        self._mode = mode = FrameByFrame("model", "dreams", self.device, batch_size, precision, graph, compile)
        check_sampling_steps(sampling_steps, dynamics.config.finest_steps)  # type: ignore[union-attr,arg-type]
        shared = mode.shared(dynamics, dynamics.OUTPUT)
        key = ("dream", batch_size, sampling_steps, bool(shared.model.shortcut), graph)
        self._share(shared, key, lambda: DreamEngine(dynamics, batch_size, sampling_steps=sampling_steps,
                                                     precision=precision, graph=graph, compile=compile, shared=shared))
        self.seeds = self._seeds(seed)
        self.engine.reset(seeds=self.seeds)

    @property
    def engine(self) -> DreamEngine:
        """In which this dream goes on now; others of the model may be put aside in it."""
        return self._seat

    def observe(self, latents: Latents, actions: Actions | None = None, has_action: Tensor | None = None) -> None:
        """Context frames (b t l e) in [-1, 1], after those already seen; actions[:, t] led into latents[:, t].

        has_action: bool (b t), by default True if there are actions. Any length: it is streamed through.
        """
        trajectory = None
        if actions is not None or has_action is not None:
            shape = tuple(latents.shape[:2])
            has_action = torch.full(shape, bool(actions)) if has_action is None else has_action
            if tuple(has_action.shape) != shape:
                raise ValueError(f"expected has_action {shape}, got {tuple(has_action.shape)}")
            if actions is None:
                if has_action.any():
                    raise ValueError("has_action says that there are actions, but none are given")
            else:
                trajectory = Trajectory.of_actions(actions, has_action)
        self.engine.observe(latents, trajectory)

    def step(self, actions: Actions | None = None, has_action: Tensor | None = None) -> Latent:
        """The next frame's latents (b l e) in [-1, 1]; actions that lead into it: int64 (b) or float32 (b k)."""
        return self.engine.step(actions, has_action=has_action).latents

    def reset(self, rows: Tensor | None = None, seed: int | Tensor | None = None) -> None:
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

    def load(self, state: EngineState) -> None:
        """Go on as when the state was taken, from a dream of this model with as many rows, or one."""
        self.engine.load(state)
        self.seeds = state.own["seeds"].cpu().expand(self.batch_size).clone()

    def _seeds(self, seed: int | Tensor) -> Tensor:
        if isinstance(seed, Tensor):
            if seed.shape != (self.batch_size,) or seed.dtype != torch.int64:
                raise ValueError(f"expected a seed, or one for each row as int64 ({self.batch_size},), got "
                                 f"{seed.dtype} {tuple(seed.shape)}")
            return seed.cpu()
        return row_seeds(seed, self.batch_size)
