"""Where Triton's kernels are tested: on a GPU, or by Triton's interpreter (TRITON_INTERPRET=1) on the CPU."""

import os

import pytest
import torch

DEVICES = [pytest.param("cuda", marks=pytest.mark.gpu),
           pytest.param("cpu", marks=pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") != "1",
                                                        reason="needs TRITON_INTERPRET=1"))]


def runnable(dtype: torch.dtype, device: str) -> torch.dtype:
    """The type in which a kernel is tested there; skips what it does not take, and all where Triton is not."""
    pytest.importorskip("triton")
    if device == "cpu" and dtype == torch.bfloat16:
        return torch.float16  # the interpreter takes bfloat16 for integers
    if device == "cuda" and dtype == torch.float32:
        pytest.skip("attention.kernel_fits leaves float32 out")
    return dtype


def error(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return ((ours.float() - theirs.float()).norm() / theirs.float().norm()).item()
