"""Dreams: latents made one frame after the other, each the next frame's past (paper section 3.2)."""

import torch
from torch import Tensor

from wakedream.dynamics.dynamics import Dynamics
from wakedream.dynamics.embed import check_actions
from wakedream.dynamics.sampler import sample
from wakedream.dynamics.shortcut import commit_level, finest_size, noised, sampling_rows, signal_of
from wakedream.errors import ConfigError
from wakedream.notation import Latent, Latents
from wakedream.transformer.frozen import FrameByFrame

Actions = dict[str, Tensor]
CHUNK = 32  # frames of a context that are looked at together


class Dream:
    """`batch_size` dreams side by side, in latents alone; of any length, at constant cost per frame.

        dream = dynamics.dream(batch_size=2, sampling_steps=4, seed=0)
        dream.observe(latents, actions, has_action)    # a context (2 t l e), or none: the first frame is then dreamed
        latent = dream.step({"action": torch.tensor([3, 0])})    # (2 l e) in [-1, 1]; None: no action is known
        dream.reset(torch.tensor([True, False]))    # the first row forgets everything, the second goes on

    A finished frame, dreamed or from data, is noised once to the commit level and looked at once more; what attention
    over time keeps of that is the past of all later frames. The dream keeps a copy of the weights as they are now.

    sampling_steps  K, a power of two up to the model's finest_steps
    precision       of that copy: "bf16" (on a GPU by default), "float32"; by default on a CPU the model's own
    graph           a frame is one CUDA graph, recorded at the first step (default: on a GPU)
    compile         layers are compiled first, which takes a minute and pays for long dreams
    """

    @torch.inference_mode(False)
    def __init__(self, dynamics: Dynamics, batch_size: int = 1, *, sampling_steps: int = 4, seed: int = 0,
                 precision: str | None = None, graph: bool | None = None, compile: bool = False):
        self.device = dynamics.registers.device
        self.batch_size, finest = batch_size, dynamics.config.finest_steps
        self._mode = FrameByFrame("model", "dreams", self.device, batch_size, precision, graph, compile)
        if sampling_steps not in [2**i for i in range(finest_size(finest) + 1)]:
            raise ConfigError(f"sampling_steps is {sampling_steps!r}: expected a power of two from 1 to {finest}, the "
                              "finest that the model was trained for")
        self.dynamics = self._mode.frozen(dynamics, "to_latent.weight")
        self.rows = sampling_rows(sampling_steps, finest, bool(dynamics.shortcut))
        self.cache = self.dynamics.init_cache(batch_size)
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self._names = [component.name for component in self.dynamics.actions.components]
        self._step = self._mode.recorded(self._next, self.cache)

    def observe(self, latents: Latents, actions: Actions | None = None, has_action: Tensor | None = None) -> None:
        """Context frames (b t l e) in [-1, 1], after those already seen; actions[:, t] led into latents[:, t].

        has_action: bool (b t), by default True if there are actions. Any length: it is streamed through.
        """
        config = self.dynamics.config
        frames = latents.shape[1] if latents.ndim == 4 else 0
        expected = (self.batch_size, frames, config.num_latents, config.latent_dim)
        if frames < 1 or latents.shape != expected:
            raise ValueError(f"expected latents ({self.batch_size}, t, {config.num_latents}, {config.latent_dim}), got "
                             f"{tuple(latents.shape)}")
        if not latents.isfinite().all():
            raise ValueError("the context's latents are not finite: look at the frames that were encoded")
        actions, has_action = self._complete(actions, has_action, (self.batch_size, frames))
        latents = latents.to(self.device)
        noise = self._noise(frames)
        for start in range(0, frames, CHUNK):
            part = slice(start, start + CHUNK)
            self._mode.run(self._commit, self.dynamics.standardise(latents[:, part]), noise[:, part],
                           has_action[:, part], *(actions[name][:, part] for name in self._names))

    def step(self, actions: Actions | None = None, has_action: Tensor | None = None) -> Latent:
        """The next frame's latents (b l e) in [-1, 1]; actions that lead into it: int64 (b) or float32 (b k)."""
        if actions is not None:
            actions = {name: value.unsqueeze(1) for name, value in actions.items()}
        if has_action is not None:
            has_action = has_action.unsqueeze(1)
        actions, has_action = self._complete(actions, has_action, (self.batch_size, 1))
        clean = self._mode.run(self._step, self._noise(1), self._noise(1), has_action,
                               *(actions[name] for name in self._names))
        return self.dynamics.unstandardise(clean).squeeze(1)

    def reset(self, rows: Tensor | None = None) -> None:
        """Start anew: all dreams, or those where `rows`, bool (b), is True."""
        self._mode.reset(rows, self.cache)

    def _next(self, noise: Tensor, commit_noise: Tensor, has_action: Tensor, *actions: Tensor) -> Tensor:
        named = dict(zip(self._names, actions, strict=True))

        def predict(noisy: Tensor, levels: Tensor, sizes: Tensor) -> Tensor:
            return self.dynamics(noisy, levels, sizes, named, has_action, cache=self.cache, commit=False)

        clean = sample(predict, noise, self.rows, self.dynamics.config.finest_steps)
        self._commit(clean, commit_noise, has_action, *actions)
        return clean

    def _commit(self, clean: Tensor, noise: Tensor, has_action: Tensor, *actions: Tensor) -> Tensor:
        """One look at finished frames as all later ones will see them."""
        finest = self.dynamics.config.finest_steps
        levels = torch.full(has_action.shape, commit_level(finest), device=self.device)
        sizes = torch.full_like(levels, finest_size(finest))
        noisy = noised(clean, noise, signal_of(levels, finest))
        return self.dynamics(noisy, levels, sizes, dict(zip(self._names, actions, strict=True)), has_action,
                             cache=self.cache)

    def _noise(self, frames: int) -> Tensor:
        config = self.dynamics.config
        return torch.randn(self.batch_size, frames, config.num_latents, config.latent_dim, device=self.device,
                           generator=self.generator)

    def _complete(self, actions: Actions | None, has_action: Tensor | None,
                  shape: tuple[int, int]) -> tuple[Actions, Tensor]:
        """Checked, on the device; zeros where there are none."""
        if has_action is None:
            has_action = torch.full(shape, actions is not None and bool(self._names))
        if has_action.shape != shape:
            raise ValueError(f"expected has_action {shape}, got {tuple(has_action.shape)}")
        if actions is None:
            if has_action.any():
                raise ValueError("has_action says that there are actions, but none are given")
            spec = self.dynamics.actions
            actions = {component.name: torch.from_numpy(component.zeros(shape[0] * shape[1])).unflatten(0, shape)
                       for component in spec.components}
        check_actions(self.dynamics.actions, actions, has_action)
        return {name: value.to(self.device) for name, value in actions.items()}, has_action.to(self.device)
