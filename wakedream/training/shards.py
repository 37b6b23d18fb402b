"""Tensors whose rows are split over the processes (FSDP2), or over those of each host (HSDP), as one process sees them;
all others pass unchanged.

Names of torch.distributed's tensors are imported where one is there: the import takes as long as torch's own.
"""

import warnings

import torch
import torch.distributed as dist
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

SPLIT = -1  # the mesh's dimension over which rows are split; the one before, if any, is over copies


def shard(model: nn.Module, blocks: list[nn.Module], device: torch.device, copies: int = 1,
          low: torch.dtype | None = None) -> None:
    """Move `model` to the device, its parameters split by rows: each block's whole only while it computes.

    copies: as many whole ones, each split over as many processes of consecutive ranks; their gradients are averaged.
    One block after the other, so the model as a whole need not fit on the device. low: in which blocks are put together
    and compute, if not as they are kept: half the bytes to send. Gradients are added in float32 all the same, and what
    lies outside the blocks, among it the last layer, stays as it is.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    # it warns of changes in place to what the model returns: objectives make none
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
    world = dist.get_world_size()
    mesh = (init_device_mesh(device.type, (world,)) if copies == 1 else
            init_device_mesh(device.type, (copies, world // copies), mesh_dim_names=("dp_replicate", "dp_shard")))
    mixed = MixedPrecisionPolicy(param_dtype=low, reduce_dtype=low and torch.float32, cast_forward_inputs=False)
    empty = {parameter for parameter in model.parameters() if parameter.numel() == 0}  # there is nothing to split
    for part in (*blocks, model):
        fully_shard(part, mesh=mesh, ignored_params=empty,
                    mp_policy=mixed if part is not model else MixedPrecisionPolicy())


def is_sharded(tensor: Tensor) -> bool:
    return hasattr(tensor, "to_local")  # a DTensor, without importing it


@torch.no_grad()
def local(tensor: Tensor) -> Tensor:
    """This process's rows, sharing memory."""
    return tensor.to_local() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]


@torch.no_grad()
def whole(tensor: Tensor) -> Tensor:
    """All rows, on every process. Collective if the tensor is sharded."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]


def bounds(tensor: Tensor) -> list[int]:
    """Where each process's rows begin, and the end of the last: 5 rows of 2 processes are [0, 3, 5]. Of several copies
    those of one."""
    rows, world = tensor.shape[0], tensor.device_mesh.size(SPLIT)  # type: ignore[attr-defined]
    each = -(-rows // world)
    return [min(each * rank, rows) for rank in range(world + 1)]


def own_rows(tensor: Tensor) -> slice:
    """Which rows this process has."""
    if not is_sharded(tensor):
        return slice(None)
    rank, ends = tensor.device_mesh.get_local_rank(SPLIT), bounds(tensor)  # type: ignore[attr-defined]
    return slice(ends[rank], ends[rank + 1])


def sum_over_shards(value: Tensor, like: Tensor) -> Tensor:
    """What the processes found for their rows, added; does not wait for the device."""
    if is_sharded(like):
        dist.all_reduce(value, group=like.device_mesh.get_group(SPLIT))  # type: ignore[attr-defined]
    return value


def exchange_rows(stack: Tensor, like: Tensor) -> Tensor:
    """Own rows of n matrices of one shape (n r c) to whole ones, (n' rows c), of which each process gets other n' =
    ceil(n / processes); split as the matrix `like` is. What is missing in the last share are zeros."""
    if not is_sharded(like):
        return stack
    ends, count = bounds(like), len(stack)
    world = len(ends) - 1
    share = -(-count // world)
    padded = F.pad(stack, (0, 0, 0, ends[1] - stack.shape[1], 0, share * world - count))
    return rearrange(_to_all(padded, like), "(rank n) r c -> n (rank r) c", n=share)[:, : ends[-1]]


def return_rows(matrices: Tensor, count: int, like: Tensor) -> Tensor:
    """And back: whole ones (n' rows c) to own rows of all `count` of them (n r c)."""
    if not is_sharded(like):
        return matrices
    ends, own = bounds(like), own_rows(like)
    world = len(ends) - 1
    padded = F.pad(matrices, (0, 0, 0, ends[1] * world - ends[-1]))
    boxes = _to_all(rearrange(padded, "n (rank r) c -> (rank n) r c", rank=world), like)
    return boxes[:count, : own.stop - own.start]


def _to_all(parts: Tensor, like: Tensor) -> Tensor:
    """Of (processes * n ...) each process's n go to it, and theirs for this one come, in the order of ranks."""
    boxes = torch.empty_like(parts, memory_format=torch.contiguous_format)
    dist.all_to_all_single(boxes, parts.contiguous(), group=like.device_mesh.get_group(SPLIT))  # type: ignore[attr-defined]
    return boxes
