"""Laws of judging: what a plain loop counts, on worlds that nothing but seed and number choose, all played to their
end."""

import numpy as np
import pytest
from signs import LONGEST, Counted, Reader, plainly

from wakedream.environments.registry import BUILT_IN, Environment
from wakedream.errors import ConfigError, DataError, RunError
from wakedream.evaluation.agent import seats as seats_module
from wakedream.evaluation.agent.judge import judge, world_seed

ENV = "signs:Signs-v0"
GIVEN = {"seed": 3, "size": None, "num_envs": 4}


def told(judged):
    rows = (judged.returns, judged.lengths, judged.terminated, judged.events["right"], judged.events["late"])
    return list(zip(*(row.tolist() for row in rows), strict=True))


@pytest.mark.parametrize(("num_envs", "processes"), [(1, 1), (3, 1), (7, 1), (7, 2), (30, 3)])
def test_it_is_what_a_plain_loop_counts_however_many_play_side_by_side(num_envs, processes):
    """Returns, lengths, ends and events, with rewards left out that are not known."""
    judged = judge(ENV, Reader, 20, seed=3, size=None, num_envs=num_envs, processes=processes)
    assert judged.seeds.tolist() == [world_seed(3, episode) for episode in range(20)]
    assert told(judged) == plainly(judged.seeds)
    assert 0 < judged.terminated.sum() < 20 and 0 < judged.events["late"].sum() < 20
    assert (judged.truncated == ~judged.terminated).all() and judged.events["right"].sum() == 16


def test_short_episodes_are_not_favoured():
    """Their mean length is that of their worlds, with more environments than episodes and with fewer."""
    lengths = {n: judge(ENV, Reader, 200, seed=0, size=None, num_envs=n).lengths for n in (1, 64, 500)}
    assert all((found == lengths[1]).all() for found in lengths.values())
    assert lengths[1].mean() == pytest.approx((2 + LONGEST - 1) / 2, abs=3 * 11 / np.sqrt(200))


def test_a_world_in_the_data_is_not_played_and_the_others_stay():
    seeds = judge(ENV, Reader, 6, **GIVEN).seeds
    others = judge(ENV, Reader, 6, avoid={int(seeds[2]), int(seeds[5])}, **GIVEN).seeds
    assert (others == seeds).tolist() == [True, True, False, True, True, False]
    assert len({*others, *seeds}) == 8


def test_worlds_are_those_of_the_seed_and_not_of_recordings():
    mine = [world_seed(0, episode) for episode in range(50)]
    recorded = [int(np.random.SeedSequence([0, episode]).generate_state(1)[0] >> 1) for episode in range(50)]
    assert len({*mine, *recorded, *(world_seed(1, episode) for episode in range(50))}) == 150


@pytest.mark.parametrize("processes", [1, 2])
def test_a_policy_by_its_name_has_chances_of_its_own_in_each_episode(processes):
    found = judge(ENV, "random", 12, seed=3, size=None, num_envs=5, processes=processes)
    again = judge(ENV, "random", 12, seed=3, size=None, num_envs=1)
    assert (found.returns == again.returns).all()
    assert len(set(found.returns)) > 6
    assert (found.returns < judge(ENV, Reader, 12, **GIVEN).returns).mean() > 0.5


def test_no_two_episodes_have_the_same_chances(monkeypatch):
    taken = []

    class Noting(Counted):
        def step(self, action):
            taken.append((self.seed, int(action)))
            return super().step(action)

    monkeypatch.setitem(BUILT_IN, "noting", Environment(lambda size: Noting(), BUILT_IN["crafter"].policies))
    judged = judge("noting", "random", 8, **GIVEN)
    tracks = {tuple(action for seed, action in taken if seed == world)[:6]
              for world, length in zip(judged.seeds, judged.lengths, strict=True) if length >= 6}
    assert len(tracks) == (judged.lengths >= 6).sum() > 3


def test_episodes_are_cut_where_it_is_asked_for():
    judged = judge(ENV, Reader, 20, max_episode_frames=11, **GIVEN)
    assert told(judged) == plainly(judged.seeds, 11)
    assert judged.lengths.max() == 10


def test_what_would_never_end_is_cut(monkeypatch):
    monkeypatch.setattr(seats_module, "LONGEST", 5)
    assert judge(ENV, Reader, 3, **GIVEN).lengths.max() == 4


def test_counts_of_achievements_are_events(monkeypatch):
    monkeypatch.setitem(BUILT_IN, "counted", Environment(lambda size: Counted()))
    judged = judge("counted", Reader, 10, **GIVEN)
    assert judged.events["found"].tolist() == [episode % 5 != 4 for episode in range(10)]
    assert not judged.events["never"].any()
    assert judged.measure("events").tolist() == judged.measure("found").tolist()


def test_measures_go_by_name():
    judged = judge(ENV, Reader, 5, **GIVEN)
    assert (judged.measure("return") == judged.returns).all() and (judged.measure("length") == judged.lengths).all()
    assert (judged.measure("events") == judged.events["right"].astype(int) + judged.events["late"]).all()
    with pytest.raises(ConfigError, match="unknown measure 'rigth'; did you mean 'right'"):
        judged.measure("rigth")
    told = judged.to_json()
    assert told["returns"] == judged.returns.tolist() and told["events"]["right"] == [0, 1, 2, 3]


@pytest.mark.parametrize("num_envs", [1, 3])
def test_the_first_episodes_are_filmed(num_envs):
    judged = judge(ENV, Reader, 6, seed=3, size=None, num_envs=num_envs, films=2)
    assert [len(film) for film in judged.films] == (judged.lengths[:2] + 1).tolist()
    first = np.random.default_rng(int(judged.seeds[0]))
    first.integers(2, LONGEST)
    assert [int(frame[0, 0, 0]) for frame in judged.films[0]] == [
        60 * int(first.integers(1, 4)) for _ in judged.films[0]]


def test_films_do_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr("wakedream.evaluation.agent.judge.FILM", 4)
    assert {len(film) for film in judge(ENV, Reader, 4, films=4, **GIVEN).films} <= {3, 4}


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize(("kind", "said"), [
    ("Raise", r"the environment signs:SignsRaise-v0 failed \(episode 0\): ZeroDivisionError: the signs fell down"),
    ("Nan", r"failed \(episode \d\): the sum of the rewards is nan"),
    ("Grows", r"gives frames of .* choose a size")])
def test_an_environment_that_fails_is_told_with_its_episode(processes, kind, said):
    with pytest.raises(DataError, match=said):
        judge(f"signs:Signs{kind}-v0", Reader, 4, processes=processes, **GIVEN)


def test_a_process_that_dies_is_told():
    with pytest.raises(RunError, match=r"plays signs:SignsDie-v0 ended with exit code -9: out of memory\? Use fewer"):
        judge("signs:SignsDie-v0", Reader, 4, processes=2, **GIVEN)


@pytest.mark.parametrize("processes", [1, 2])
def test_all_environments_close_at_the_end(monkeypatch, tmp_path, processes):
    monkeypatch.setenv("SIGNS_CLOSED", str(tmp_path))
    judge("signs:SignsClose-v0", Reader, 5, seed=3, size=None, num_envs=3, processes=processes)
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("options", [{"num_envs": 0}, {"processes": 0}, {"films": -1}, {"max_episode_frames": 1}])
def test_numbers_that_cannot_be_are_refused(options):
    with pytest.raises(ConfigError, match=f"{next(iter(options))} is .* expected at least"):
        judge(ENV, Reader, 4, **GIVEN | options)


def test_wrong_names_are_refused_before_anything_is_made(monkeypatch):
    monkeypatch.setattr("wakedream.evaluation.agent.judge.take_seats", None)
    with pytest.raises(ConfigError, match="unknown policy for signs:Signs-v0 'randon'; did you mean 'random'"):
        judge(ENV, "randon", 4, **GIVEN)
    with pytest.raises(ConfigError, match="unknown environment 'craftr'; did you mean 'crafter'"):
        judge("craftr", "random", 4, **GIVEN)
    with pytest.raises(ConfigError, match="seed -1"):
        judge(ENV, "random", 4, seed=-1, size=None, num_envs=1)


def test_environments_close_when_a_player_fails(monkeypatch):
    """Also those that were made before one that cannot be."""
    closed, made = [], []

    class Closing(Counted):
        def close(self):
            closed.append(self)

    def make(size):
        if len(made) == 6:
            raise ValueError("no more")
        made.append(Closing())
        return made[-1]

    monkeypatch.setitem(BUILT_IN, "closing", Environment(make))
    with pytest.raises(RuntimeError, match="no player"):
        judge("closing", lambda count: _raise(), 4, **GIVEN)
    assert len(closed) == 4
    with pytest.raises(DataError, match=r"closing failed \(making it\): ValueError: no more"):
        judge("closing", Reader, 4, **GIVEN)
    assert len(closed) == 6


def _raise():
    raise RuntimeError("no player")
