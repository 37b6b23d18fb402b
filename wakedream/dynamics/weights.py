"""A dynamics model's weights folder. Its tokenizer is named by fingerprint, and lies elsewhere (world/)."""

from pathlib import Path

from wakedream.config import from_dict, to_dict
from wakedream.data.actions import ActionSpec
from wakedream.dynamics.config import DynamicsConfig
from wakedream.dynamics.dynamics import Dynamics
from wakedream.transformer import weights

KIND = "dynamics model"


def save_dynamics(dynamics: Dynamics, folder: Path) -> None:
    about = {"model": to_dict(dynamics.config), "actions": to_dict(dynamics.actions), "tokenizer": dynamics.tokenizer}
    weights.save_weights(dynamics, folder, KIND, about)


def load_dynamics(path: Path) -> Dynamics:
    """Of a run folder, a checkpoint or a weights folder; CheckpointError when there is none that can be used."""
    folder = weights.weights_folder(path)
    about = weights.read_about(folder, KIND)
    dynamics = Dynamics(from_dict(DynamicsConfig, about["model"]), from_dict(ActionSpec, about["actions"]))
    dynamics.tokenizer = about["tokenizer"]
    return weights.load_weights(dynamics, folder)
