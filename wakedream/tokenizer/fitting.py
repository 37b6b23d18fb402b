"""Whether a data set is of the size that a tokenizer takes. Imports no torch."""

from wakedream.data.store import Store
from wakedream.errors import ConfigError
from wakedream.tokenizer.config import TokenizerConfig


def check_frames(store: Store, config: TokenizerConfig) -> None:
    """ConfigError unless the frames of the data set are what the tokenizer takes."""
    expected = (config.height, config.width, config.channels)
    if store.frame_shape != expected:
        (h, w, c), (eh, ew, ec) = store.frame_shape, expected
        raise ConfigError(
            f"the data set {store.path} has frames of {h}x{w} with {c} channels, the tokenizer takes {eh}x{ew} with "
            f"{ec}: record or ingest the data at {eh}x{ew}, give a tokenizer that was trained on such frames, or train "
            f"one with --model.height {h} --model.width {w} --model.channels {c}")
