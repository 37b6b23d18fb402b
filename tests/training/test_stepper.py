"""A recorded step is the step that was recorded."""

import json

import pytest
import torch

from wakedream.training.distributed import Place
from wakedream.training.loop import fit


class OnGpu:
    """Batches on the GPU: a recorded step copies them into place."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.batches).cuda()

    def state_dict(self):
        return self.batches.state_dict()

    def load_state_dict(self, state):
        self.batches.load_state_dict(state)


def optimizers(model):
    made = torch.optim.AdamW(model.parameters(), lr=1e-2, fused=True, capturable=True)
    made.param_groups[0]["base_lr"] = 1e-2
    return [made]


@pytest.mark.gpu
def test_a_recorded_step_equals_a_launched_one_and_resumes(kit, tmp_path):
    """With fresh noise in every step, rates that change, two batches a step, and a stop in between."""
    weights = {}
    for name, ends in {"off": [12], "on": [12], "resumed": [7, 12], "recomputed": [12]}.items():
        for steps in ends:
            torch.manual_seed(0)
            objective = kit.Objective().cuda()
            options = kit.config(steps=steps, accumulate=2, compile="off" if name == "off" else "on", device="cuda",
                                 decay_fraction=0.0, warmup_steps=5, recompute=name == "recomputed")
            (tmp_path / name).mkdir(exist_ok=True)
            state = fit(objective, optimizers, OnGpu(kit.Batches()), options,
                        Place(torch.device("cuda")), tmp_path / name, 8)
        weights[name] = [*state.objective.model.parameters(), *state.ema.model.parameters(),
                         torch.stack(list(state.balance.running.values()))]
    for name in ("on", "resumed", "recomputed"):
        for ours, theirs in zip(weights[name], weights["off"], strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


@pytest.mark.gpu
def test_steps_of_another_kind_are_recorded_anew(kit, tmp_path):
    """From step 6 on there is one loss more, and it asks the averaged weights, which the graph must see change."""
    class Later(kit.Objective):
        def follow(self, averaged):
            self.averaged = (averaged,)

        def prepare(self, step):
            self.late = step >= 6
            return self.late

        def forward(self, clip):
            losses = super().forward(clip)
            if not self.late:
                losses.pop("size")
            else:
                with torch.no_grad():
                    target = self.averaged[0](clip)
                losses["size"] = (self.model(clip) - target).square().mean()
            return losses

    weights = {}
    for name in ("off", "on"):
        torch.manual_seed(0)
        options = kit.config(steps=15, compile=name, device="cuda", decay_fraction=0.0)
        (tmp_path / name).mkdir()
        state = fit(Later().cuda(), optimizers, OnGpu(kit.Batches()), options, Place(torch.device("cuda")),
                    tmp_path / name, 8)
        weights[name] = [*state.objective.model.parameters(), *state.ema.model.parameters()]
        lines = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        assert [line["step"] for line in lines if line["kind"] == "train" and "size" in line] == list(range(7, 16))
    for ours, theirs in zip(weights["on"], weights["off"], strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
