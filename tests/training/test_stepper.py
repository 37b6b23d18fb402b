"""A recorded step is the step that was recorded."""

import contextlib
import json
import math
import os
import signal
from typing import ClassVar

import pytest
import torch

from wakedream.errors import Interrupted
from wakedream.training.distributed import Place
from wakedream.training.loop import begin, fit
from wakedream.training.stepper import DDP_WARM_UP, WARM_UP, Stepper


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


class Graph:
    """Stands for a CUDA graph; `ended`: its recording came to an end in order."""

    made: ClassVar[list["Graph"]] = []

    def __init__(self) -> None:
        self.replays, self.ended = 0, False
        Graph.made.append(self)

    def replay(self) -> None:
        self.replays += 1

    def pool(self) -> None:
        pass

    def reset(self) -> None:
        Graph.made.remove(self)

    @staticmethod
    @contextlib.contextmanager
    def recording(graph, **options):
        yield
        graph.ended = True


@pytest.fixture
def stepper(kit, monkeypatch):
    """One that believes to have a GPU; what a step does is noted alone."""
    monkeypatch.setattr(Graph, "made", [])
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", Graph.recording)
    objective, config = kit.Objective(), kit.config()
    state = begin(objective, kit.optimizers, kit.Batches(), config, Place(torch.device("cpu")))
    made = Stepper(objective, state, config)
    made.records, made.launched = True, []
    monkeypatch.setattr(made, "_step", made.launched.append)

    def warm_up(work, clips):
        made._step(clips)
        work.warmed += 1
        made.warmed += 1

    monkeypatch.setattr(made, "_warm_up", warm_up)
    return made


def test_each_work_has_a_graph_of_its_own_that_is_kept(stepper) -> None:
    """Also if they take turns, as every third batch has a bootstrap row: each is new, warmed up and recorded once."""
    names = [step % 3 == 0 for step in range(30)]
    stepper.state.objective.prepare = lambda step: names[step]
    new = []
    for _ in names:
        stepper()
        new.append(stepper.is_new)
    assert [step for step, is_new in enumerate(new) if is_new] == [0, 1]
    assert [graph.replays for graph in Graph.made] == [20 - WARM_UP, 10 - WARM_UP]
    assert len(stepper.launched) == 2 * (WARM_UP + 1)


def test_ddp_is_warmed_up_by_all_works_together(stepper) -> None:
    """The first takes all of it; one that comes later takes its own two steps. No graph outlives `close`."""
    stepper.warm_up = DDP_WARM_UP
    stepper.state.objective.prepare = lambda step: step >= DDP_WARM_UP + 3
    for _ in range(DDP_WARM_UP + 8):
        stepper()
    assert [graph.replays for graph in Graph.made] == [3, 5 - WARM_UP]
    stepper.close()
    assert not Graph.made


def test_a_stepper_may_be_told_never_to_record(stepper) -> None:
    stepper.warm_up = math.inf
    for _ in range(30):
        stepper()
    assert not Graph.made and len(stepper.launched) == 30


def test_a_signal_does_not_break_off_a_recording(stepper, monkeypatch) -> None:
    def stop(number, frame):
        raise Interrupted(number)

    def step(clips):
        if Graph.made:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(stepper, "_step", step)
    before = signal.signal(signal.SIGTERM, stop)
    try:
        for _ in range(WARM_UP):
            stepper()
        with pytest.raises(Interrupted):
            stepper()
    finally:
        signal.signal(signal.SIGTERM, before)
    (graph,) = Graph.made
    assert graph.ended
    assert graph.replays == 0


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
@pytest.mark.parametrize("is_late", [lambda step: step >= 6, lambda step: step % 3 == 2], ids=["from_6_on", "in_turns"])
def test_other_work_is_recorded_too(kit, tmp_path, is_late):
    """Then there is one loss more, and it asks the weights without a gradient, which the graph must see change."""
    class Later(kit.Objective):
        def prepare(self, step):
            self.late = is_late(step)
            return self.late

        def forward(self, clip):
            losses = super().forward(clip)
            if not self.late:
                losses.pop("size")
            else:
                with torch.no_grad():
                    target = self.model(clip).flip(0)
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
        assert [line["step"] for line in lines if line["kind"] == "train" and "size" in line] == [
            step + 1 for step in range(15) if is_late(step)]
    for ours, theirs in zip(weights["on"], weights["off"], strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
