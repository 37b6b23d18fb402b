"""Where Triton's kernels are tested: on a GPU, or by Triton's interpreter (TRITON_INTERPRET=1) on the CPU."""

import os

import pytest
import torch

from wakedream.model.fp8 import E4M3, e4m3

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


def check_e4m3(found: torch.Tensor, plain: torch.Tensor, unit: torch.Tensor) -> None:
    """That a kernel's outputs in fp8 are its others over the unit, cast; those in 16 bits are rounded once more."""
    assert found.dtype == E4M3 and plain.dtype != E4M3
    found, wanted = found.float(), e4m3(plain.float() / unit).float()
    if found.is_cuda:
        torch.testing.assert_close(found, wanted, rtol=1 / 8, atol=2.0**-9)
    else:  # the interpreter cuts the smallest off and forgets to carry into the exponent
        right = (wanted.abs() > 2.0**-6) & (wanted.frexp().mantissa.abs() != 0.5)
        assert torch.equal(found[right], wanted[right]) and right.float().mean() > 0.8
