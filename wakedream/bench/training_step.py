"""What `wakedream train tokenizer` repeats, built as it builds it, with clips that are already on the device."""

import torch

from wakedream.bench.synthetic import Batches
from wakedream.stages.config import TokenizerRun
from wakedream.tokenizer.objective import TokenizerObjective
from wakedream.tokenizer.tokenizer import Tokenizer
from wakedream.training.distributed import Place, wrap
from wakedream.training.loop import begin
from wakedream.training.optim import build_optimizers
from wakedream.training.stepper import Stepper


def clips(run: TokenizerRun, device: torch.device) -> Batches:
    model = run.model
    shape = (run.loader.batch_size, run.loader.length, model.channels, model.height, model.width)
    return Batches(shape, device)


def training_step(run: TokenizerRun, device: torch.device) -> tuple[Stepper, Tokenizer]:
    """One optimizer step: masks, losses, balance, backward, clipping, optimizers, averaged weights; and the model."""
    torch.manual_seed(run.train.seed)
    place, objective = Place(device), TokenizerObjective(Tokenizer(run.model), run.objective)
    state = begin(objective, lambda model: build_optimizers(model, run.optim), clips(run, device), run.train, place)
    return Stepper(wrap(objective, run.train, place), state, run.train), objective.model
