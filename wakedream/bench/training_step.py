"""What `wakedream train tokenizer` repeats, built as it builds it, with clips that are already on the device."""

import torch

from wakedream.bench.synthetic import Batches
from wakedream.stages.config import TokenizerRun
from wakedream.tokenizer.objective import TokenizerObjective
from wakedream.tokenizer.tokenizer import Tokenizer
from wakedream.training.balance import LossBalance
from wakedream.training.distributed import Place, wrap
from wakedream.training.ema import Ema
from wakedream.training.gradients import FiniteCheck
from wakedream.training.metrics import Meter
from wakedream.training.optim import build_optimizers
from wakedream.training.state import TrainState
from wakedream.training.stepper import Stepper


def clips(run: TokenizerRun, device: torch.device) -> Batches:
    model = run.model
    shape = (run.loader.batch_size, run.loader.length, model.channels, model.height, model.width)
    return Batches(shape, device)


def training_step(run: TokenizerRun, device: torch.device) -> tuple[Stepper, Tokenizer]:
    """One optimizer step: masks, losses, balance, backward, clipping, optimizers, averaged weights; and the model."""
    torch.manual_seed(run.train.seed)
    place = Place(device)
    tokenizer = Tokenizer(run.model)
    objective = TokenizerObjective(tokenizer, run.objective).to(device)
    optimizers = build_optimizers(tokenizer, run.optim)
    state = TrainState(objective, optimizers, Ema(tokenizer, run.train.ema_decay),
                       LossBalance(objective.weights, place.mean), clips(run, device), FiniteCheck(device), Meter(),
                       place)
    return Stepper(wrap(objective, run.train, place), state, run.train), tokenizer
