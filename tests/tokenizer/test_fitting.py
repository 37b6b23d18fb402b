"""A data set of other frames than the tokenizer takes is refused, with what came, what was expected and what to do."""

from dataclasses import replace

import numpy as np
import pytest

from wakedream.data.actions import ActionSpec
from wakedream.data.episode import Episode
from wakedream.data.store import Store, StoreWriter
from wakedream.errors import ConfigError
from wakedream.tokenizer.config import TokenizerConfig
from wakedream.tokenizer.fitting import check_frames


def test_frames_of_another_size_are_refused(tmp_path):
    with StoreWriter(tmp_path, ActionSpec(), frame_shape=(32, 64, 3)) as writer:
        writer.add(Episode.of_video(np.zeros((2, 32, 64, 3), np.uint8)))
    store = Store.open(tmp_path)
    config = TokenizerConfig(height=32, width=64, patch_size=16, dim=32, encoder_depth=2, decoder_depth=2, heads=2,
                             mlp_dim=64, pattern=("space", "time"))
    check_frames(store, config)
    for changes, told in (({"height": 64}, "takes 64x64 with 3"), ({"width": 32}, "takes 32x32 with 3"),
                          ({"channels": 1}, "takes 32x64 with 1")):
        with pytest.raises(ConfigError, match=f"has frames of 32x64 with 3 channels, the tokenizer {told}") as error:
            check_frames(store, replace(config, **changes))
        assert "--model.height 32 --model.width 64 --model.channels 3" in str(error.value)
