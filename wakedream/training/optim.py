"""Optimizers: Muon for the matrices of linear maps, AdamW for all else; or AdamW for everything.

`torch.optim.Muon` orthogonalises one matrix at a time; at model widths of some hundred the GPU then waits
for launches (measured elsewhere: two thirds of a step). Here equal shapes are one batch. Same update:
tests/training/test_optim.py.
"""

from collections import defaultdict

import torch
from torch import Tensor, nn

from wakedream.training.config import OptimConfig
from wakedream.training.distributed import lowers
from wakedream.training.shards import exchange_rows, local, return_rows


class Muon(torch.optim.Optimizer):
    """Momentum, then the nearest orthogonal matrix (Jordan et al. 2024), equal shapes in one batch."""

    def __init__(
        self, params: list[nn.Parameter], lr: float, momentum: float = 0.95, weight_decay: float = 0.0
    ):
        assert all(param.ndim == 2 for param in params), [tuple(param.shape) for param in params]
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            shapes: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for param in group["params"]:
                if param.grad is not None:
                    shapes[param.shape].append(param)
            for params in shapes.values():
                self._step(params, group)

    def _step(self, params: list[Tensor], group: dict) -> None:
        """Matrices of one shape; of sharded ones each process orthogonalises some and keeps its rows of all."""
        for param in params:
            if "momentum_buffer" not in self.state[param]:
                self.state[param]["momentum_buffer"] = torch.zeros_like(param)
        weights = [local(param) for param in params]
        grads = [local(param.grad) for param in params if param.grad is not None]
        buffers = [local(self.state[param]["momentum_buffer"]) for param in params]
        torch._foreach_lerp_(buffers, grads, 1 - group["momentum"])
        ahead = torch._foreach_lerp(grads, buffers, group["momentum"])  # Nesterov
        low = torch.bfloat16 if lowers("bf16", params[0].device) else torch.float32
        matrices = exchange_rows(torch.stack(ahead).to(low), params[0])  # only a whole one can be orthogonalised
        updates = return_rows(orthogonalise(matrices), len(params), params[0])
        rows, columns = params[0].shape
        scale = max(1.0, rows / columns) ** 0.5
        if group["weight_decay"]:
            torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
        updates = updates.to(params[0].dtype) * (group["lr"] * scale)  # the rate may be a tensor: no .item()
        torch._foreach_sub_(weights, list(updates.unbind()))


def orthogonalise(matrices: Tensor, steps: int = 5) -> Tensor:
    """Newton-Schulz on (n rows columns), bf16 is enough: singular values to about 1, directions kept."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrices
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        gram = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)  # sums inside the product: three launches, not seven
        x = torch.baddbmm(x, gram, x, beta=a)
    return x.mT if tall else x


def build_optimizers(model: nn.Module, config: OptimConfig) -> list[torch.optim.Optimizer]:
    """Each parameter group has "base_lr", which the schedule scales into "lr"."""
    trained = {name: param for name, param in model.named_parameters() if param.requires_grad}
    matrices = muon_matrices(model, config) & trained.keys()
    decayed = [param for name, param in trained.items() if name not in matrices and param.ndim >= 2]
    others = [param for name, param in trained.items() if name not in matrices and param.ndim < 2]
    groups = [
        {"params": params, "weight_decay": decay}
        for params, decay in ((decayed, config.weight_decay), (others, 0.0))
        if params
    ]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(groups, lr=config.adamw_lr, betas=config.betas, fused=True,
                          capturable=next(model.parameters()).is_cuda)
    ]
    if matrices:
        params = [trained[name] for name in trained if name in matrices]
        optimizers.append(Muon(params, config.lr, config.momentum, config.weight_decay))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["base_lr"] = group["lr"]
    return optimizers


def set_rates(optimizers: list[torch.optim.Optimizer], scale: float) -> None:
    """Every group's "lr" becomes `scale` times its "base_lr", as a tensor beside the parameters that is changed
    in place: a recorded step reads it anew. Waits for nothing."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            if not isinstance(group["lr"], Tensor):
                group["lr"] = torch.zeros((), device=group["params"][0].device)
            group["lr"].fill_(group["base_lr"] * scale)


def highest_rate(optimizers: list[torch.optim.Optimizer]) -> float:
    """Of all groups; waits for the device."""
    rates = [float(group["lr"]) for optimizer in optimizers for group in optimizer.param_groups]
    return float(f"{max(rates):.6g}")  # a float32


def muon_matrices(model: nn.Module, config: OptimConfig) -> set[str]:
    """Names of the weights of linear maps, all or those of the repeated layers; never of tables of embeddings."""
    if config.name == "adamw":
        return set()
    linear = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    return {name for name in linear if config.muon_on == "linear" or ".layers." in name}
