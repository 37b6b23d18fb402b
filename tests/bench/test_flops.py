"""Counted operations beside a hand count and beside PyTorch's own counter."""

from dataclasses import replace

import pytest
import torch
from tokenizer.small import SMALL
from torch.utils.flop_counter import FlopCounterMode

from wakedream.bench.dream import dream_bytes
from wakedream.bench.dynamics_train import step_flops as dynamics_step_flops
from wakedream.bench.flops import frame_flops, lpips_flops, tokenizer_flops, transformer_flops
from wakedream.bench.reference import reference
from wakedream.bench.synthetic import GAMEPAD, random_latents
from wakedream.bench.tokenizer_train import step_flops
from wakedream.dynamics.config import DynamicsConfig, DynamicsObjectiveConfig, LatentLoaderConfig
from wakedream.dynamics.dynamics import Dynamics
from wakedream.dynamics.objective import DynamicsObjective
from wakedream.perceptual.lpips import LPIPS
from wakedream.perceptual.trunks import trunk
from wakedream.stages.config import DynamicsRun
from wakedream.tokenizer.tokenizer import Tokenizer
from wakedream.training.config import OptimConfig, TrainConfig
from wakedream.transformer.config import TransformerConfig
from wakedream.transformer.layout import TokenLayout


def counted(work) -> int:
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def test_one_layer_by_hand() -> None:
    """2 patches see patches, 1 latent sees all; d = 8, MLP 16; 3 frames of which 2 are seen."""
    layout = TokenLayout((("patch", 2), ("latent", 1)), (("patch", ("patch",)), ("latent", ("patch", "latent"))))
    config = TransformerConfig(8, 2, 2, 2, 16, pattern=("space", "time"), window=2)
    space = 3 * (3 * 2 * (4 * 8 * 8 + 3 * 8 * 16)) + 3 * 4 * 8 * (2 * 2 + 3)
    time = 3 * (3 * 2 * 2 * 8 * 8 + 1 * 2 * (2 * 8 * 8 + 3 * 8 * 16)) + 4 * 8 * (1 + 2 + 2)
    assert transformer_flops(config, layout, "latent", frames=3, past=0) == space + time
    later = transformer_flops(config, layout, "latent", frames=1, past=9)  # sees 2 frames, on average they saw 5 / 3
    assert later == pytest.approx((space + time) / 3 + 4 * 8 * (2 - 5 / 3))


@pytest.mark.parametrize("pattern", [("space", "space", "space", "time"), ("dense",)])
def test_training_beside_the_counter(pattern) -> None:
    """Within 5 %: the counter sees hidden pairs too, and queries of tokens whose outputs are not used."""
    config = replace(SMALL, height=48, width=48, dim=128, mlp_dim=1024, encoder_depth=6, decoder_depth=6,
                     pattern=pattern, window=4, num_latents=16)
    tokenizer = Tokenizer(config)
    frames = torch.rand(1, 2, 3, 48, 48)  # short: the counter does not see SDPA on the CPU
    total = counted(lambda: tokenizer(frames)[0].square().mean().backward())
    assert tokenizer_flops(tokenizer, 2).training == pytest.approx(total, rel=0.05)


def test_stream_beside_the_counter() -> None:
    config = replace(SMALL, dim=128, mlp_dim=512, encoder_depth=4, decoder_depth=4)
    tokenizer = Tokenizer(config)
    stream = tokenizer.stream(1)
    frame, latent = torch.rand(1, 3, config.height, config.width), torch.rand(1, config.num_latents, config.latent_dim)
    flops = tokenizer_flops(tokenizer, 1, past=config.window)
    assert flops.embed + flops.encode == pytest.approx(counted(lambda: stream.encode(frame)), rel=0.05)
    assert flops.decode == pytest.approx(counted(lambda: stream.decode(latent)), rel=0.05)


def dynamics(**changes) -> Dynamics:
    values = {"num_latents": 16, "latent_dim": 8, "packing": 2, "dim": 128, "depth": 6, "heads": 4, "mlp_dim": 512,
              "num_registers": 2, "pattern": ("space", "time"), "window": 4, "finest_steps": 8}
    made = Dynamics(DynamicsConfig(**values | changes), GAMEPAD)
    made.shortcut.fill_(True)
    return made


def test_a_frame_of_a_dream_by_hand() -> None:
    """One layer over time, d = 8, MLP 16; 1 action, 1 shortcut, 2 spatial tokens and 1 register, each sees 3 frames;
    the output is that of the spatial tokens alone, and of a commit only keys and values are wanted."""
    made = dynamics(num_latents=2, latent_dim=3, packing=1, dim=8, depth=1, heads=2, mlp_dim=16, num_registers=1,
                    pattern=("time",), window=3)
    keys, outputs = 2 * 5 * 8 * 16, 2 * 2 * 8 * (2 * 8 + 3 * 16) + 4 * 2 * 3 * 8
    latents = 2 * 2 * 3 * 8
    assert frame_flops(made, 4) == 4 * (latents + keys + outputs + latents) + (latents + keys)


@pytest.mark.parametrize("pattern", [("space", "time"), ("dense",)])
def test_dreams_beside_the_counter(pattern) -> None:
    """Within 5 %: what the commit puts out is computed too, though nobody asked."""
    made = dynamics(pattern=pattern)
    dream = made.dream(2, sampling_steps=4)
    total = counted(lambda: dream.step({"action": torch.tensor([0, 1])}))
    assert 2 * frame_flops(made, 4) == pytest.approx(total, rel=0.05)


def test_the_ring_of_a_dream_has_as_many_numbers_as_are_counted() -> None:
    made = dynamics(pattern=("space", "dense"))
    layers = made.init_cache(3).layers.values()
    numbers = sum(tensor.numel() for layer in layers for tensor in (layer.keys, layer.values))
    weights = sum(made.get_parameter(name).numel() for name, _ in made.named_parameters() if name.startswith(
        ("transformer.", "embed_latent.", "to_latent.")))
    assert dream_bytes(made, 3, 5, "bf16") == 2 * 5 * (weights + numbers)
    assert dream_bytes(made, 3, 5, "fp8") == 5 * (weights + 2 * numbers)


@pytest.mark.parametrize("bootstraps", [False, True])
def test_dynamics_training_beside_the_counter(bootstraps) -> None:
    """Rows of images, short clips and long ones, and the teacher's looks: within 6 %, it counts hidden pairs too."""
    loader = LatentLoaderConfig(batch_size=8, length=4, short=2)
    made, config = dynamics(), DynamicsObjectiveConfig(bootstrap_from=0)
    run = DynamicsRun(made.config, config, loader, OptimConfig(), TrainConfig())
    objective = DynamicsObjective(made, config, loader.batch_size)
    assert objective.prepare(0)
    objective.bootstraps = bootstraps
    clip = random_latents(run.model, loader, torch.device("cpu"))
    total = counted(lambda: objective(clip)["shortcut"].backward())
    assert dynamics_step_flops(objective.model, run, bootstraps) == pytest.approx(total, rel=0.06)


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_lpips_beside_the_counter(net: str) -> None:
    lpips = LPIPS(net, {name: torch.rand(shape) for name, shape in trunk(net).shapes().items()})
    prediction, target = torch.rand(2, 3, 40, 48, requires_grad=True), torch.rand(2, 3, 40, 48)
    total = counted(lambda: lpips(prediction, target).sum().backward())
    assert 2 * lpips_flops(trunk(net), 40, 48) == pytest.approx(total, rel=0.05)


def test_the_reference_is_about_six_gflop_a_frame() -> None:
    run = reference()
    tokenizer = Tokenizer(run.model)
    assert sum(weight.numel() for weight in tokenizer.parameters()) == pytest.approx(12.8e6, rel=0.02)
    frames = run.loader.batch_size * run.loader.length
    assert step_flops(tokenizer, run) / frames == pytest.approx(6e9, rel=0.08)
