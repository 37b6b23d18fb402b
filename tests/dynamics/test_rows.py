"""Laws of the rows of a batch: every kind by its share, every window once an epoch, old states go on."""

from collections import Counter

import pytest
import torch

from wakedream.dynamics.config import LatentLoaderConfig
from wakedream.dynamics.rows import Mix, Rows, Windows
from wakedream.errors import DataError


@pytest.mark.parametrize("batch_size", [*range(1, 9), 12, 16])
@pytest.mark.parametrize(("images", "longs"),
                         [(0.3, 0.25), (0.1, 0.65), (0.0, 0.5), (0.02, 0.9), (0.0, 1.0), (0.5, 0.5)])
def test_every_kind_of_row_has_its_share_in_a_batch_of_any_size(batch_size, images, longs):
    """Fixed where one of each fits, else carried over from batch to batch."""
    mix = Mix(LatentLoaderConfig(batch_size=batch_size, length=12, short=4, image_fraction=images, long_fraction=longs))
    shares = {"images": images, "short": 1 - images - longs, "long": longs}
    shares = {name: share for name, share in shares.items() if share > 1e-9}
    given, batches = dict.fromkeys(shares, 0), 600
    for _ in range(batches):
        counts = mix.counts(given)
        assert sum(counts.values()) == batch_size and min(counts.values()) >= 0
        assert mix.varies or counts == mix.counts(dict.fromkeys(shares, 0))
        given = {name: given[name] + counts[name] for name in shares}
    for name, share in shares.items():
        near = 0.01 if mix.varies else 0.5 / batch_size + 1e-9
        assert given[name] > 0 and given[name] / (batches * batch_size) == pytest.approx(share, abs=2 * near), name


@pytest.mark.parametrize(("batch_size", "given"), [(1, {"short": 300}), (2, {"images": 300, "short": 300})])
def test_a_state_from_before_small_batches_had_all_kinds_goes_on(batch_size, given):
    """With every kind by its share from there on: what was never given is not made up for."""
    chosen = LatentLoaderConfig(batch_size=batch_size, length=12, short=4)
    rows = Rows([40, 50], chosen, seed=0, rank=0, world_size=1)
    state = rows.state_dict()
    sizes = {kind.name: kind.windows for kind in rows.mix.kinds}
    old = {**state, "positions": {kind: count * sizes[kind] for kind, count in given.items()},
           **{name: {kind: state[name][kind] for kind in given} for name in ("lengths", "windows")}}
    rows.load_state_dict(old)
    assert all(rows.positions[kind] >= place for kind, place in old["positions"].items())
    counts = Counter()
    for _ in range(100 // batch_size):
        counts.update(next(rows)[1])
    assert all(abs(counts[kind.name] - 100 * kind.share) <= 3 for kind in rows.mix.kinds), counts
    with pytest.raises(DataError, match="resume with the same data"):
        rows.load_state_dict({**old, "windows": dict.fromkeys(given, 1)})


def test_epochs_have_orders_of_their_own():
    windows = Windows([9, 2, 30], 4, seed=0)
    epochs = [windows.first_frames(torch.arange(start, start + windows.total).numpy()).tolist()
              for start in (0, windows.total)]
    assert epochs[0] != epochs[1]
    assert sorted(epochs[0]) == sorted(epochs[1]) == [*range(6), *range(11, 38)]
