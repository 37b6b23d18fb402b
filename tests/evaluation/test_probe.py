"""Laws of the probe: it reads what latents hold, not what they lack; it is judged by episodes that it never saw."""

import json

import numpy as np
import pytest
import torch
from squares import SIZE, moving_square, small_tokenizer

from wakedream.data.actions import ActionSpec
from wakedream.data.episode import Episode
from wakedream.data.store import Store, StoreWriter
from wakedream.evaluation.config import EvaluateTokenizerConfig
from wakedream.evaluation.tokenizer.pictures import Pictures
from wakedream.evaluation.tokenizer.probe import PENALTIES, _windows, probe, ridge
from wakedream.evaluation.tokenizer.report import sections
from wakedream.evaluation.tokenizer.run import TokenizerEvaluation
from wakedream.tokenizer.tokenizer import Tokenizer

FRAMES = 24


class Seeing(Tokenizer):
    """Its latents are the brightness of some places, and nothing else."""

    def encode(self, frames, mask=None):
        return frames.mean(2)[..., :4, :8] + 0.01 * frames.mean(2)[..., 8:12, 8:16]


class Blind(Tokenizer):
    """Its latents are chances."""

    def encode(self, frames, mask=None):
        return torch.rand(*frames.shape[:2], 4, 8, generator=torch.Generator().manual_seed(int(frames.sum())))


def of_kind(kind) -> Tokenizer:
    return kind(small_tokenizer().config).eval()


def write_counts(path, episodes=12, held_out=0.25, unknown=()) -> Store:
    """Numbers from 0 to 9 are drawn as the brightness of two places; a third is drawn nowhere, a fourth is always 5."""
    with StoreWriter(path, ActionSpec(), frame_shape=(SIZE, SIZE, 3), held_out=held_out) as writer:
        for seed in range(episodes):
            rng, video = np.random.default_rng(seed), moving_square(FRAMES, seed)
            food, drink, luck = rng.integers(0, 10, (3, FRAMES))
            video[:, 0:2, 0:4] = 20 * food[:, None, None, None]
            video[:, 2:4, 4:8] = 20 * drink[:, None, None, None]
            episode = Episode.of_video(video)
            found = {"food": food, "half": drink / 2, "luck": luck, "always": np.full(FRAMES, 5)}
            episode.extras = {name: values.astype(np.float32) for name, values in found.items()}
            if seed in unknown:
                episode.extras["food"][:10] = np.nan
            writer.add(episode)
    return Store.open(path)


@pytest.fixture(scope="module")
def counts(tmp_path_factory) -> Store:
    return write_counts(tmp_path_factory.mktemp("data") / "counts")


def by_extra(found):
    return {row["extra"]: row for row in found["rows"]}


def test_what_latents_hold_is_read_and_what_they_lack_is_not(counts):
    found = probe(of_kind(Seeing), counts, 400, 4)
    rows = by_extra(found)
    assert list(rows) == ["always", "food", "half", "luck"]
    for name, exact in (("food", 1.0), ("half", None)):
        assert rows[name]["latents"]["r2"] > 0.99
        assert (rows[name]["latents"]["exact"], rows[name]["pixels"]["exact"]) == (exact, exact)
    assert rows["luck"]["latents"]["r2"] < 0.1
    assert rows["luck"]["latents"]["exact"] < 0.3
    assert rows["always"] == {"extra": "always", "std": 0.0, "constant": True, "commonest": 1.0}
    assert 0.05 < rows["food"]["commonest"] < 0.3
    assert rows["half"]["commonest"] is None
    assert rows["food"]["std"] == pytest.approx(np.sqrt(99 / 12), rel=0.2)
    assert found["verdict"] == ""
    assert found == probe(of_kind(Seeing), counts, 400, 4)


def test_a_tokenizer_that_does_not_see_is_told_so(counts):
    """Of what the pixels show: luck is drawn nowhere."""
    found = probe(of_kind(Blind), counts, 400, 4)
    assert max(row["latents"]["r2"] for row in found["rows"] if not row["constant"]) < 0.1
    assert min(by_extra(found)[name]["pixels"]["r2"] for name in ("food", "half")) > 0.95
    assert "food, half can be read from the pixels and not from them" in found["verdict"]


def test_it_is_judged_by_other_episodes_than_it_learned_from(counts, tmp_path):
    held_out = {info.id for info in counts.split("held_out")}
    none_held_out = write_counts(tmp_path / "d", held_out=0.0)
    for store in (counts, none_held_out):
        learn, judge = ({episode for episode, _ in windows} for windows in _windows(store, 400, 4, seed=0))
        assert learn
        assert judge
        assert not learn & judge
        if store is counts:
            assert judge == held_out
    found = probe(of_kind(Seeing), none_held_out, 400, 4)
    assert (found["episodes"], by_extra(found)["food"]["latents"]["exact"]) == (3, 1.0)


def test_frames_at_which_an_extra_is_unknown_are_left_out(counts, tmp_path):
    store = write_counts(tmp_path / "d", unknown=range(0, 12, 2))
    whole, some = (probe(of_kind(Seeing), one, 400, 4) for one in (counts, store))
    for windows, frames in zip(_windows(store, 400, 4, seed=0), ("learned_from", "frames"), strict=True):
        unknown = sum(episode % 2 == 0 and t < 10 for episode, start in windows for t in range(start, start + 4))
        assert unknown > 4
        assert whole[frames] - some[frames] == unknown
    assert by_extra(some)["food"]["latents"]["exact"] == 1.0


def test_without_extras_or_with_too_few_episodes_there_is_no_probe(tmp_path, played):
    assert probe(of_kind(Seeing), played, 400, 4) is None
    for number, held_out in ((1, 0.0), (2, 0.0), (2, 0.5)):
        store = write_counts(tmp_path / f"{number}-{held_out}", number, held_out)
        assert probe(of_kind(Seeing), store, 400, 4) is None


def test_the_line_is_the_one_with_the_best_penalty():
    """Against a plain loop: fitted to the rest, chosen on the validated, fitted to all; features on any scale."""
    rng = np.random.default_rng(0)
    x, asked = (rng.normal(size=(n, 30)) * 10.0 ** rng.integers(-2, 3, 30) + 7 for n in (60, 20))
    y = np.stack([x[:, 0] / x[:, 0].std(), rng.normal(size=60)], axis=1) + 5
    validated = np.arange(60) % 5 == 0

    mean, spread = x.mean(0), x.std(0, ddof=1)

    def line(which, penalty, k, to):
        z, own = (x[which] - mean) / spread, y[which, k]
        centred = z - z.mean(0)
        a = np.concatenate([centred, np.sqrt(penalty * len(z)) * np.eye(30)])
        w = np.linalg.lstsq(a, np.concatenate([own - own.mean(), np.zeros(30)]), rcond=None)[0]
        return ((to - mean) / spread - z.mean(0)) @ w + own.mean()

    expected, chosen = [], []
    for k in (0, 1):
        errors = [np.square(line(~validated, p, k, x[validated]) - y[validated, k]).mean() for p in PENALTIES]
        chosen.append(PENALTIES[int(np.argmin(errors))])
        expected.append(line(slice(None), chosen[-1], k, asked))
    assert chosen[0] < chosen[1]
    said = ridge(*map(torch.from_numpy, (x, y, validated, asked)))
    assert np.allclose(said.numpy(), np.stack(expected, axis=1), atol=1e-6)


def test_a_feature_that_never_varies_says_nothing():
    x = torch.cat([torch.arange(20.0)[:, None], torch.full((20, 1), 0.3)], dim=1)
    said = ridge(x, 2 * x[:, :1], torch.arange(20) % 5 == 0, torch.tensor([[30.0, 100.0]]))
    assert said.item() == pytest.approx(60, abs=1e-3)


def test_the_probe_stands_on_the_page_and_on_the_terminal_unless_it_is_not_wanted(counts, tmp_path):
    of_kind(Tokenizer).save_pretrained(tmp_path / "run")

    def shown(**options):
        config = EvaluateTokenizerConfig(tmp_path / "run", counts.path, clips=2, length=4, videos=False, **options)
        evaluation = TokenizerEvaluation(config, counts, torch.device("cpu"), None)
        results = evaluation.measure()
        json.dumps(results, allow_nan=False)
        return results["probe"], evaluation.lines(results), "".join(sections(results, Pictures()))

    found, lines, page = shown(probe=200)
    r2 = f"{by_extra(found)['food']['latents']['r2']:.3f}"
    assert any(line.split()[0] == "food" and r2 in line for line in lines if line)
    assert r2 in page
    assert any(line.split()[:2] == ["always", "constant"] for line in lines)
    assert "What is read from the latents" in page
    found, lines, page = shown(probe=0)
    assert found is None
    assert not any("Read linearly" in line for line in lines)
    assert "What is read from the latents" not in page
