"""A tokenizer's weights folder."""

from pathlib import Path

from wakedream.config import from_dict, to_dict
from wakedream.tokenizer.config import TokenizerConfig
from wakedream.tokenizer.tokenizer import Tokenizer
from wakedream.transformer import weights

KIND = "tokenizer"


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    weights.save_weights(tokenizer, folder, KIND, {"model": to_dict(tokenizer.config)})


def load_tokenizer(path: Path) -> Tokenizer:
    """Of a run folder, a checkpoint or a weights folder; CheckpointError when there is none that can be used."""
    folder = weights.weights_folder(path)
    config = from_dict(TokenizerConfig, weights.read_about(folder, KIND)["model"])
    return weights.load_weights(Tokenizer(config), folder)


def fingerprint(tokenizer: Tokenizer) -> str:
    """sha256 over config and tensors: the same for the same tokenizer on any device, saved or not."""
    return weights.fingerprint(tokenizer, to_dict(tokenizer.config))
