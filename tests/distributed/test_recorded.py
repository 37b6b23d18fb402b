"""Steps of two GPUs, recorded with what they send each other, are those that are launched, and those of one process."""

import pytest
import recorded_ranks
import torch
from test_ranks import of, same, start


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_recorded_steps_of_two_gpus(tmp_path) -> None:
    """Two kinds of work in turns, in one of which a layer learns nothing. The processes end, too: NCCL waits for graphs
    that are still there."""
    codes, said = start(tmp_path, script=recorded_ranks.__file__)
    assert codes == [0, 0], "\n".join(said)
    same(of(tmp_path, "recorded"), of(tmp_path, "launched"), 1e-4)
    same(of(tmp_path, "in_parts"), of(tmp_path, "parts_launched"), 1e-4)
    same(of(tmp_path, "recorded"), of(tmp_path, "one"), 1e-3)  # Muon rounds to bf16
